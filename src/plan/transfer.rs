//! The plan of another data set, used on this one.

use std::path::Path;

use super::{Plan, Reason};
use crate::config::NetworkKind;
use crate::network::Shape;
use crate::{Error, Result};

/// What is taken over, as fields of reasons.
const TAKEN: [&str; 8] = ["spacing", "patch", "batch", "features", "strides", "network", "dice", "step"];
/// A data set whose median spacing differs from the plan's by more than this factor is hardly of its kind.
const OTHER_SPACING: f64 = 2.0;

impl Plan {
    /// Takes over spacing, patch, batch, network and Dice reduction of another plan, which stands in `file`, and the
    /// normalisation of channels of the same name. `self` is what would have been planned for this data set: channels that the
    /// other plan does not have keep it. Returns what a user should know.
    ///
    /// # Errors
    /// Where the other plan does not say what its channels are, and there are not as many.
    pub fn take_over(&mut self, other: &Self, file: &Path) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let from = self.channels_of(other).ok_or_else(|| {
            Error::invalid(
                file,
                "channels",
                format!("the plan is for {} channels, and the data set has {}", other.channels, self.channels),
                "it was written by a version that did not name channels; give --plan a plan made anew by `segen plan`",
            )
        })?;
        let mut own = Vec::new();
        for (channel, source) in from.iter().enumerate() {
            match source {
                Some(source) => self.normalisation[channel] = other.normalisation[*source].clone(),
                None => own.extend(self.channel_names.get(channel).cloned()),
            }
        }
        if !own.is_empty() {
            notes.push(format!(
                "normalised as planned for this data set, since the plan has no channel of that name: {}",
                own.join(", ")
            ));
        }
        let median = |axis: usize| {
            let mut along: Vec<f64> = self.fingerprint.spacings.iter().map(|spacing| spacing[axis]).collect();
            along.sort_unstable_by(f64::total_cmp);
            along.get(along.len() / 2).copied().unwrap_or(other.spacing[axis])
        };
        let data = [0, 1, 2].map(median);
        let far = |axis: usize| {
            let ratio = data[axis] / other.spacing[axis];
            ratio.max(1.0 / ratio) > OTHER_SPACING
        };
        if (0..3).any(far) {
            let mm = |spacing: [f64; 3]| spacing.map(|edge| format!("{edge:.3}")).join(" x ");
            notes.push(format!(
                "warning: scans have a median spacing of {} mm, and the plan resamples them to {} mm",
                mm(data),
                mm(other.spacing)
            ));
        }
        self.spacing = other.spacing;
        (self.patch, self.batch, self.dice) = (other.patch, other.batch, other.dice);
        self.shape = other.shape.clone();
        let named = |reason: &Reason| TAKEN.contains(&reason.field.as_str());
        self.reasons.retain(|reason| !named(reason));
        let told = format!("taken over from the plan for {} (`{}`)", other.dataset, file.display());
        let fields = ["spacing", "patch", "batch", "features"];
        self.reasons.extend(fields.map(|field| Reason { field: field.to_owned(), text: told.clone() }));
        Ok(notes)
    }

    /// For every channel the one of the other plan that has its name; in order where that plan does not name them, `None`
    /// where it has others then.
    fn channels_of(&self, other: &Self) -> Option<Vec<Option<usize>>> {
        match other.channel_names.is_empty() {
            true => (self.channels == other.channels).then(|| (0..self.channels).map(Some).collect()),
            false => Some(same_names(&self.channel_names, &other.channel_names)),
        }
    }

    /// The kind of its network, as a configuration names it.
    pub fn network_kind(&self) -> NetworkKind {
        match self.shape {
            Shape::UNet(_) => NetworkKind::UNet,
            Shape::DeepMedic(_) => NetworkKind::DeepMedic,
        }
    }
}

/// For every name the place where it stands among others, without regard to case; each place once.
pub fn same_names(names: &[String], others: &[String]) -> Vec<Option<usize>> {
    let mut free: Vec<Option<String>> = others.iter().map(|name| Some(name.to_lowercase())).collect();
    let place = |name: &String| {
        let place = free.iter().position(|other| *other == Some(name.to_lowercase()))?;
        free[place] = None;
        Some(place)
    };
    names.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_each_whatever_their_case() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            same_names(&names(&["T1", "flair", "T2", "t1"]), &names(&["FLAIR", "t1"])),
            [Some(1), Some(0), None, None]
        );
    }
}
