//! Everything that was drawn for one patch, with all its numbers.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt};

use super::{Affine, Keep, Op, Over, Resampling, Sharing, Side};

/// Everything that was drawn for one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// From offsets about the patch centre to offsets in the sample, voxels.
    pub affine: Affine,
    /// Added to the sample position after that, voxels.
    pub shift: [f64; 3],
    /// Labels that change places, because left and right do.
    pub swapped: Vec<[u8; 2]>,
    /// What happens to intensities after that, in this order.
    pub changes: Vec<Change>,
}

/// A change of one channel with all its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The channel.
    pub channel: usize,
    /// What is done to it.
    pub kind: Intensity,
}

/// What [`Change`] does; see [`Op`] for the definitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Intensity {
    /// `x + deviation * n`, n normal: a function of (key, channel, voxel).
    Noise {
        /// Standard deviation.
        deviation: f64,
        /// Names the noise field.
        key: u64,
    },
    /// Gaussian with a sigma in voxels for each of x, y, z.
    Blur {
        /// Sigma along x, y, z.
        sigma: [f64; 3],
    },
    /// Minus the Laplacian of a Gaussian, within the old range.
    Sharpen {
        /// Sigma of the Gaussian, voxels.
        sigma: f64,
        /// Whose range.
        over: Over,
    },
    /// `x * factor`.
    Multiply {
        /// The factor.
        factor: f64,
    },
    /// `x + amount`.
    Add {
        /// What is added.
        amount: f64,
    },
    /// `(x - mean) * factor + mean`, clipped to the old range.
    Contrast {
        /// The factor.
        factor: f64,
        /// Whose mean and range.
        over: Over,
    },
    /// Onto a grid of round(zoom * edge) voxels and back.
    LowResolution {
        /// Zoom along x, y, z.
        zoom: [f64; 3],
        /// How values are taken on the way down and up.
        resampling: Resampling,
    },
    /// Power of the image scaled to \[0, 1\].
    Gamma {
        /// The exponent.
        exponent: f64,
        /// Of the image or of its negative.
        side: Side,
        /// Whose range and moments.
        over: Over,
        /// What is restored afterwards.
        keep: Keep,
    },
    /// `value` everywhere.
    Constant {
        /// The value.
        value: f64,
    },
    /// 0 in a box around a point.
    Erase {
        /// Its centre relative to the patch edges, 0 to 1.
        centre: [f64; 3],
        /// Its edges relative to those of the patch.
        size: f64,
    },
    /// 0 outside the mask.
    Mask,
    /// 0 where all channels with this change were 0.
    Nonzero,
}

impl Draw {
    /// Changes nothing.
    pub fn identity() -> Self {
        Self { affine: Affine::IDENTITY, shift: [0.0; 3], swapped: Vec::new(), changes: Vec::new() }
    }

    /// Whether some change looks at the intensities of the whole image.
    pub fn needs_image(&self) -> bool {
        self.changes.iter().any(|change| {
            matches!(
                change.kind,
                Intensity::Contrast { over: Over::Image, .. }
                    | Intensity::Gamma { over: Over::Image, .. }
                    | Intensity::Sharpen { over: Over::Image, .. }
            )
        })
    }

    /// Draws the magnitudes of one operation and appends it.
    pub fn add(&mut self, op: &Op, sharing: Sharing, channels: usize, random: &mut ChaCha8Rng) {
        match op {
            Op::Rotate { degrees } => {
                let degrees = degrees.map(|angle| angle.draw(random));
                self.affine = self.affine.then(&Affine::rotation(degrees));
            }
            Op::Scale { factor, axes } => {
                let factor = factor.draw(random);
                let factors = axes.map(|scaled| if scaled { factor } else { 1.0 });
                self.affine = self.affine.then(&Affine::scaling(factors));
            }
            Op::Mirror { axes } => {
                let mirrored = axes.map(|allowed| allowed && random.random::<f64>() < 0.5);
                self.affine = self.affine.then(&Affine::mirror(mirrored));
            }
            Op::Flip { axis, pairs } => {
                self.affine = self.affine.then(&Affine::mirror(std::array::from_fn(|a| a == *axis)));
                // Swapping twice is not swapping.
                if !pairs.is_empty() {
                    self.swapped = if self.swapped.is_empty() { pairs.clone() } else { Vec::new() };
                }
            }
            Op::Translate { voxels } => {
                // Seen from the map so far, as every later spatial operation.
                let moved = voxels.map(|amount| amount.draw(random));
                for (axis, shift) in self.shift.iter_mut().enumerate() {
                    *shift += (0..3).map(|k| self.affine.0[axis][k] * moved[k]).sum::<f64>();
                }
            }
            Op::Mask { channels: list } => self.each_of(list, Intensity::Mask),
            Op::Nonzero { channels: list } => self.each_of(list, Intensity::Nonzero),
            intensity => self.add_intensity(intensity, sharing, channels, random),
        }
    }

    fn each_of(&mut self, channels: &[usize], kind: Intensity) {
        self.changes.extend(channels.iter().map(|&channel| Change { channel, kind }));
    }

    /// Draws a change for every channel: each its own, or one for all.
    fn add_intensity(&mut self, op: &Op, sharing: Sharing, channels: usize, random: &mut ChaCha8Rng) {
        // One field of noise is named for all channels; the channel's number makes it another for each.
        let key = if matches!(op, Op::Noise { .. }) { random.next_u64() } else { 0 };
        let together = match op {
            Op::Noise { .. } => Sharing::Shared,
            _ => sharing,
        };
        let mut kind = None;
        for channel in 0..channels {
            if channel == 0 || together == Sharing::Independent {
                kind = intensity(op, sharing, key, random);
            }
            self.changes.extend(kind.map(|kind| Change { channel, kind }));
        }
    }
}

/// The numbers of one intensity change; `None` where the channel is left as it is.
fn intensity(op: &Op, sharing: Sharing, key: u64, random: &mut ChaCha8Rng) -> Option<Intensity> {
    let chosen = |p: f64, random: &mut ChaCha8Rng| random.random::<f64>() < p;
    Some(match op {
        Op::Noise { deviation } => Intensity::Noise { deviation: deviation.draw(random), key },
        Op::Blur { sigma, per_channel } => {
            if !chosen(*per_channel, random) {
                return None;
            }
            let sigma = match sharing {
                Sharing::Independent => std::array::from_fn(|_| sigma.draw(random)),
                Sharing::Shared => [sigma.draw(random); 3],
            };
            Intensity::Blur { sigma }
        }
        Op::Sharpen { sigma, over } => Intensity::Sharpen { sigma: sigma.draw(random), over: *over },
        Op::Brightness { factor } => Intensity::Multiply { factor: factor.draw(random) },
        Op::Offset { amount } => Intensity::Add { amount: amount.draw(random) },
        Op::Contrast { factor, over } => Intensity::Contrast { factor: factor.draw(random), over: *over },
        Op::LowResolution { zoom, per_channel, axes, resampling } => {
            if !chosen(*per_channel, random) {
                return None;
            }
            let zoom = zoom.draw(random).min(1.0);
            let zoom = axes.map(|coarser| if coarser { zoom } else { 1.0 });
            Intensity::LowResolution { zoom, resampling: *resampling }
        }
        Op::Gamma { exponent, side, over, keep } => {
            Intensity::Gamma { exponent: exponent.draw(random), side: *side, over: *over, keep: *keep }
        }
        Op::Constant { value } => Intensity::Constant { value: value.draw(random) },
        Op::Erase { size } => {
            let centre = std::array::from_fn(|_| random.random());
            Intensity::Erase { centre, size: size.draw(random) }
        }
        Op::Rotate { .. }
        | Op::Scale { .. }
        | Op::Mirror { .. }
        | Op::Flip { .. }
        | Op::Translate { .. }
        | Op::Mask { .. }
        | Op::Nonzero { .. } => return None,
    })
}
