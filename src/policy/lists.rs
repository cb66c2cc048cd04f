//! Lists of operations with published probabilities.

use crate::augment::{Augmentation, Keep, Magnitude, Op, Over, Resampling, Rule, Sharing, Side};
use crate::data::dataset::Sides;
use crate::plan::Plan;
use crate::prepare::Normalisation;

impl Augmentation {
    /// Patches as they are.
    pub fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// nnU-Net's default list for 3-D patches.
    ///
    /// `thick` is the axis whose slices are so thick that rotation and scaling stay inside them (nnU-Net's
    /// "dummy 2-D"; see [`thick_axis`]): rotation is then within 180 instead of 30 degrees and about that axis
    /// alone. `mirror` are the axes that may be mirrored, see [`Sides::mirror_axes`].
    pub fn basic(thick: Option<usize>, mirror: [bool; 3]) -> Self {
        let axes = std::array::from_fn(|axis| thick != Some(axis));
        let degrees = match thick {
            None => [Magnitude::Uniform(-30.0, 30.0); 3],
            Some(_) => {
                axes.map(
                    |in_plane| {
                        if in_plane { Magnitude::Fixed(0.0) } else { Magnitude::Uniform(-180.0, 180.0) }
                    },
                )
            }
        };
        let mild = Magnitude::AboutOne(0.75, 1.25);
        let low_resolution = Op::LowResolution {
            zoom: Magnitude::Uniform(0.5, 1.0),
            per_channel: 0.5,
            axes,
            resampling: Resampling::NearestLinear,
        };
        let gamma = |side| Op::Gamma {
            exponent: Magnitude::AboutOne(0.7, 1.5),
            side,
            over: Over::Patch,
            keep: Keep::Moments,
        };
        let rule = |probability, op| Rule { probability, sharing: Sharing::Independent, op };
        let mut rules = vec![
            rule(0.2, Op::Rotate { degrees }),
            rule(0.2, Op::Scale { factor: Magnitude::Uniform(0.7, 1.4), axes }),
            rule(0.1, Op::Noise { deviation: Magnitude::Uniform(0.0, 0.1) }),
            rule(0.2, Op::Blur { sigma: Magnitude::Uniform(0.5, 1.0), per_channel: 0.5 }),
            rule(0.15, Op::Brightness { factor: mild }),
            rule(0.15, Op::Contrast { factor: mild, over: Over::Patch }),
            rule(0.25, low_resolution),
            rule(0.1, gamma(Side::Inverted)),
            rule(0.3, gamma(Side::Direct)),
        ];
        if mirror.contains(&true) {
            rules.push(rule(1.0, Op::Mirror { axes: mirror }));
        }
        Self { rules }
    }

    /// nnU-Net's default list as a plan and the sides of its labels call for it: rotations within thick slices,
    /// no mirroring that would swap a left structure with its right partner, and zeros kept where the plan's
    /// normalisation puts them.
    pub fn for_plan(plan: &Plan, sides: &Sides) -> Self {
        let mut list = Self::basic(thick_axis(plan.patch, plan.spacing), sides.mirror_axes());
        list.rules.extend(Self::kept_zero(plan).rules);
        list
    }

    /// DeepMedic's default (Kamnitsas et al. 2017): mirrored along x with probability 1/2, left and right labels
    /// changing places; every channel shifted by N(0, 0.05) and multiplied by N(1, 0.01). Not mirrored where no
    /// exchange of labels keeps left and right apart.
    pub fn deepmedic(sides: &Sides) -> Self {
        let rule = |probability, op| Rule { probability, sharing: Sharing::Independent, op };
        let flip = sides.exchangeable().then(|| rule(0.5, Op::Flip { axis: 0, pairs: sides.pairs.clone() }));
        let mut rules: Vec<Rule> = flip.into_iter().collect();
        rules.push(rule(1.0, Op::Offset { amount: Magnitude::Normal(0.0, 0.05) }));
        rules.push(rule(1.0, Op::Brightness { factor: Magnitude::Normal(1.0, 0.01) }));
        Self { rules }
    }

    /// Rules that put zeros back where a plan's normalisation put them; they belong after all others.
    pub fn kept_zero(plan: &Plan) -> Self {
        let channels = |wanted: fn(&Normalisation) -> bool| -> Vec<usize> {
            let chosen =
                plan.normalisation.iter().enumerate().filter(|(_, normalisation)| wanted(normalisation));
            chosen.map(|(channel, _)| channel).collect()
        };
        let masked = channels(|normalisation| matches!(normalisation, Normalisation::ZScore { .. }));
        let nonzero =
            channels(|normalisation| matches!(normalisation, Normalisation::ZScore { masked: true }));
        let lists = [
            (Op::Mask { channels: masked.clone() }, masked),
            (Op::Nonzero { channels: nonzero.clone() }, nonzero),
        ];
        let rule = |op| Rule { probability: 1.0, sharing: Sharing::Independent, op };
        let kept = lists.into_iter().filter(|(_, channels)| !channels.is_empty());
        Self { rules: kept.map(|(op, _)| rule(op)).collect() }
    }
}

/// The axis along which voxels are so much thicker that spatial changes should stay in the plane, as nnU-Net
/// decides it: the axis of the coarsest spacing (mm), where the longest edge of the patch (voxels) is more
/// than three times the patch's edge along it.
pub fn thick_axis(patch: [usize; 3], spacing: [f64; 3]) -> Option<usize> {
    let coarsest = (0..3).fold(0, |best, axis| if spacing[axis] > spacing[best] { axis } else { best });
    let longest = patch.into_iter().max().unwrap_or(0);
    (longest > 3 * patch[coarsest]).then_some(coarsest)
}
