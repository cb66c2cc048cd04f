//! A plan in words.

use std::fmt::Write;

use super::{Budget, CpuBudget, Normalisation, Plan, Reason};
use crate::config::DiceReduction;
use crate::data::dataset::Dataset;
use crate::network::UNetShape;

/// nnU-Net's choice before a processor budget reduced it.
pub(super) struct Full {
    pub(super) patch: [usize; 3],
    pub(super) batch: usize,
    pub(super) base: usize,
    /// Median shape of the cases at the target spacing.
    pub(super) median: [f64; 3],
}

const AXES: [&str; 3] = ["x (right)", "y (front)", "z (top)"];
const GIB: f64 = (1u64 << 30) as f64;

impl Plan {
    /// The plan as text for a person: the choices, then the reason for each. `convolution_gflops` is the speed of
    /// one convolution on this machine (`segen_kernels::convolution_speed`), `kept_gib` bounds the prepared cases that
    /// training keeps in memory (`loader.memory_gib`).
    pub fn describe(&self, convolution_gflops: f64, kept_gib: f64) -> String {
        let mut rows = vec![
            ("axes", self.axis_order.clone()),
            ("spacing", format!("{} mm", times(&self.spacing.map(rounded)))),
            ("patch", format!("{} voxels", times(&self.patch))),
            ("batch", self.batch.to_string()),
        ];
        rows.extend(self.shape.kind().describe());
        rows.extend([
            ("normalisation", join(self.normalisation.iter().map(normalisation_name), ", ")),
            ("dice", dice_name(self.dice).to_owned()),
            (
                "step",
                format!(
                    "{:.1} GFLOP: about {:.2} s here, where a convolution reaches {convolution_gflops:.0} GFLOP/s",
                    self.step_flops() / 1e9,
                    self.predicted_step_seconds_here(convolution_gflops)
                ),
            ),
            ("memory", format!("{:.2} GiB at the peak", self.predicted_peak_bytes(kept_gib) as f64 / GIB)),
        ]);
        let mut text = format!("Plan for {}\n", self.dataset);
        for (name, value) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<14} {value}");
        }
        text.push_str("\nWhy\n");
        for reason in &self.reasons {
            let _ = writeln!(text, "  {}: {}", reason.field, reason.text);
        }
        text
    }
}

/// The reason for every choice of `plan`.
pub(super) fn reasons(
    plan: &Plan,
    unet: &UNetShape,
    dataset: &Dataset,
    budget: &Budget,
    full: &Full,
    thick_axis: Option<usize>,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |field: &str, text: String| reasons.push(Reason { field: field.to_owned(), text });
    add("spacing", spacing(plan, thick_axis));
    add("patch", patch(plan, budget, full));
    add("batch", batch(plan, budget, full));
    add("features", features(unet, budget, full));
    add(
        "strides",
        format!(
            "each stage halves the axes whose spacing is within a factor of two of the finest, down to four \
             voxels; kernels span an axis once it is no longer twice as coarse as the finest; {} stages",
            unet.strides.len()
        ),
    );
    for (name, normalisation) in dataset.channels.iter().zip(&plan.normalisation) {
        add("normalisation", format!("channel `{name}`: {}", normalisation_reason(plan, normalisation)));
    }
    add("dice", dice(plan, full));
    add("classes", classes(plan, dataset));
    if let CpuBudget::Step { seconds, gflops } = budget.cpu {
        add("step", step(plan, seconds, gflops));
    }
    reasons
}

fn spacing(plan: &Plan, thick_axis: Option<usize>) -> String {
    let cases = plan.fingerprint.spacings.len();
    let mut text = format!("the median spacing of the {cases} training cases");
    if let Some(axis) = thick_axis {
        let _ = write!(
            text,
            "; along {} the 10th percentile, because slices there are more than three times as thick as voxels \
             are wide, and cases with thinner slices should keep them",
            AXES[axis]
        );
    }
    text
}

fn patch(plan: &Plan, budget: &Budget, full: &Full) -> String {
    let mut text = format!(
        "the median case has {} voxels at this spacing; the largest patch of such proportions that nnU-Net's \
         estimate of memory puts into {:.1} GiB with a batch of two is {}",
        times(&full.median),
        budget.memory_bytes as f64 / GIB,
        times(&full.patch)
    );
    if plan.patch != full.patch {
        let _ =
            write!(text, "; reduced to {} to keep the time of a step{}", times(&plan.patch), limit(budget));
    }
    let share = plan.patch.iter().product::<usize>() as f64 / full.median.iter().product::<f64>();
    if share < 0.25 {
        let _ = write!(text, "; it sees {:.0} % of a median case at once", 100.0 * share);
    }
    text
}

fn batch(plan: &Plan, budget: &Budget, full: &Full) -> String {
    let rule = format!(
        "as many as fit the memory while a batch covers at most 5 % of all voxels, at least two: {}",
        full.batch
    );
    if plan.batch == full.batch {
        rule
    } else {
        format!("{rule}; reduced to {} to keep the time of a step{}", plan.batch, limit(budget))
    }
}

fn features(unet: &UNetShape, budget: &Budget, full: &Full) -> String {
    let base = unet.features.first().copied().unwrap_or(full.base);
    let rule = "doubled from stage to stage up to ten times the first";
    if base == full.base {
        format!("{base} in the first stage, nnU-Net's default, {rule}")
    } else {
        format!(
            "{base} in the first stage instead of nnU-Net's {} to keep the time of a step{}; {rule}",
            full.base,
            limit(budget)
        )
    }
}

fn normalisation_reason(plan: &Plan, normalisation: &Normalisation) -> String {
    let kept = 100.0 * plan.fingerprint.relative_size_after_cropping;
    match normalisation {
        Normalisation::ZScore { masked: true } => format!(
            "z-score inside the voxels that are not zero, because cropping to them keeps only {kept:.0} % of \
             the volume"
        ),
        Normalisation::ZScore { masked: false } => {
            format!(
                "z-score of each case over its whole volume; cropping to non-zero voxels keeps {kept:.0} %"
            )
        }
        Normalisation::Ct { lower, upper, mean, std } => format!(
            "CT values mean the same in every case: clipped to {lower:.1}..{upper:.1} (0.5 and 99.5 % of the \
             foreground), then (value - {mean:.1}) / {std:.1}"
        ),
        Normalisation::Rgb => "divided by 255, as the channel name says".to_owned(),
        Normalisation::Rescale => "each case scaled to 0..1, as the channel name says".to_owned(),
        Normalisation::None => "left as it is, as the channel name says".to_owned(),
    }
}

fn dice(plan: &Plan, full: &Full) -> String {
    let volumes = full.median.iter().product::<f64>() / full.patch.iter().product::<usize>() as f64;
    match plan.dice {
        DiceReduction::Sample => {
            "each sample has its own Dice: a patch covers much of a case, so that most hold every class"
                .to_owned()
        }
        DiceReduction::Batch => format!(
            "summed over the batch before the quotient: a median case holds {volumes:.1} patches, so that many \
             patches lack a class"
        ),
    }
}

fn classes(plan: &Plan, dataset: &Dataset) -> String {
    let counts = &plan.fingerprint.class_voxels;
    let total: u64 = counts.iter().sum();
    let share = |(name, &count): (&String, &u64)| match count {
        0 => format!("{name} absent"),
        _ => format!("{name} 1 in {:.1} voxels", total as f64 / count as f64),
    };
    join(dataset.labels.names.iter().zip(counts).map(share), ", ")
}

fn step(plan: &Plan, limit: f64, gflops: f64) -> String {
    let predicted = plan.predicted_step_seconds(gflops);
    let verdict = if predicted <= limit {
        format!("within the limit of {limit} s")
    } else {
        format!("above the limit of {limit} s, and nothing is left to reduce")
    };
    format!(
        "{:.1} GFLOP at a nominal {gflops:.0} GFLOP/s: about {predicted:.2} s, {verdict}",
        plan.step_flops() / 1e9
    )
}

fn limit(budget: &Budget) -> String {
    match budget.cpu {
        CpuBudget::Off => String::new(),
        CpuBudget::Step { seconds, .. } => format!(" under {seconds} s on the nominal processor"),
    }
}

pub(crate) fn normalisation_name(normalisation: &Normalisation) -> String {
    match normalisation {
        Normalisation::ZScore { masked: true } => "z-score inside the mask",
        Normalisation::ZScore { masked: false } => "z-score",
        Normalisation::Ct { .. } => "CT",
        Normalisation::Rgb => "RGB to 0..1",
        Normalisation::Rescale => "rescale to 0..1",
        Normalisation::None => "none",
    }
    .to_owned()
}

fn dice_name(dice: DiceReduction) -> &'static str {
    match dice {
        DiceReduction::Sample => "per sample",
        DiceReduction::Batch => "per batch",
    }
}

fn times<T: ToString>(triple: &[T; 3]) -> String {
    join(triple.iter().map(ToString::to_string), "x")
}

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn rounded(millimetres: f64) -> f64 {
    (millimetres * 1e4).round() / 1e4
}
