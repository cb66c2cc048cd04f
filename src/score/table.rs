//! The summary as text for a terminal.

use std::fmt::Write;

use super::{Metric, Summary};

/// The columns of the overview: heading and metric, by the names that the literature uses.
const OVERVIEW: [(&str, Metric); 7] = [
    ("DSC", Metric::Dice),
    ("SENS", Metric::Sensitivity),
    ("PRC", Metric::Precision),
    ("HD95 mm", Metric::Hd95),
    ("NSD", Metric::Nsd),
    ("lesion SENS", Metric::LesionSensitivity),
    ("lesion PRC", Metric::LesionPrecision),
];

impl Summary {
    /// The summary as a table for people: means per region, then per region and metric the mean, median,
    /// number of cases, how many are undefined, and the worst case.
    pub fn table(&self) -> String {
        let mut text = String::new();
        if self.trained_on {
            line(&mut text, format_args!("These are training cases, no estimate for new ones."));
        }
        self.overview(&mut text);
        for region in 0..self.regions.len() {
            text.push('\n');
            self.details(region, &mut text);
        }
        let penalised: usize = (0..self.regions.len()).map(|region| self.hd95_penalised(region)).sum();
        if penalised > 0 {
            line(
                &mut text,
                format_args!(
                    "\nHD95: in {penalised} regions of cases one segmentation is empty; the image's diagonal \
                     stands for the distance."
                ),
            );
        }
        if self.without_prediction > 0 {
            line(
                &mut text,
                format_args!("\n{} references have no prediction and are left out.", self.without_prediction),
            );
        }
        text
    }

    fn overview(&self, text: &mut String) {
        let names = self.regions.iter().map(|region| region.name.chars().count());
        let width = names.max().unwrap_or(0).max("foreground mean".len());
        let cases =
            if self.cases.len() == 1 { "1 case".to_owned() } else { format!("{} cases", self.cases.len()) };
        let row = |name: &str, cell: &dyn Fn(Metric) -> String| {
            let cells = OVERVIEW
                .map(|(heading, metric)| format!("  {:>width$}", cell(metric), width = heading.len().max(7)));
            format!("{name:width$}{}", cells.concat())
        };
        let headings = OVERVIEW.map(|(heading, _)| format!("  {heading:>7}"));
        line(text, format_args!("{cases:width$}{}", headings.concat()));
        for (index, region) in self.regions.iter().enumerate() {
            let cell = |metric| number(metric, self.average(index, metric).mean);
            line(text, format_args!("{}", row(&region.name, &cell)));
        }
        let cell = |metric| number(metric, self.foreground_mean(metric).0);
        line(text, format_args!("{}", row("foreground mean", &cell)));
    }

    fn details(&self, region: usize, text: &mut String) {
        let values = self.regions[region].values.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let title = format!("{} ({values})", self.regions[region].name);
        line(
            text,
            format_args!(
                "{title:22}  {:>8}  {:>8}  {:>5}  {:>9}  worst case",
                "mean", "median", "cases", "undefined"
            ),
        );
        for metric in Metric::ALL.into_iter().filter(|metric| !metric.is_count()) {
            let average = self.average(region, metric);
            line(
                text,
                format_args!(
                    "  {:20}  {:>8}  {:>8}  {:>5}  {:>9}  {}",
                    metric.key(&self.options),
                    number(metric, average.mean),
                    number(metric, average.median),
                    average.n,
                    average.undefined,
                    self.worst(region, metric)
                ),
            );
        }
    }

    /// The worst case of a metric: its value and name; the first where several are equal.
    fn worst(&self, region: usize, metric: Metric) -> String {
        let mut worst: Option<(f64, f64, &str)> = None;
        for case in &self.cases {
            let value = case.scores[region].get(metric);
            let Some((badness, value)) = value.and_then(|v| Some((metric.badness(v)?, v))) else { continue };
            if worst.is_none_or(|(most, _, _)| badness > most) {
                worst = Some((badness, value, &case.case));
            }
        }
        worst.map_or_else(String::new, |(_, value, case)| format!("{} {case}", number(metric, Some(value))))
    }
}

fn number(metric: Metric, value: Option<f64>) -> String {
    match (metric, value) {
        (_, None) => "-".to_owned(),
        (Metric::Hd95, Some(millimetres)) => format!("{millimetres:.2}"),
        (Metric::VolumeError, Some(millilitres)) => format!("{millilitres:+.3}"),
        (Metric::RelativeVolumeError, Some(share)) => format!("{share:+.3}"),
        (_, Some(value)) => format!("{value:.4}"),
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{content}");
}
