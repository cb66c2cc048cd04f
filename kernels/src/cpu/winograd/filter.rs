//! Which axes are filtered, and where filtering pays.

use super::super::blocking::Blocking;
use super::super::correlate::{Axis, Source};
use super::super::operands::Operands;
use super::transforms::MOST_FREQUENCIES;
use crate::settings::Settings;

/// Products per tile of a plane of y and z.
const PLANE_FREQUENCIES: usize = 16;

/// Below this, transforming the weights costs more than the filtering saves.
const FEWEST_OUTPUTS: usize = 800;

/// The axes along which a kernel is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// All three.
    Volume,
    /// y and z; along x the kernel has so many taps that are summed.
    Plane { taps: usize },
}

impl Filtered {
    pub(super) fn frequencies(self) -> usize {
        if self == Self::Volume { MOST_FREQUENCIES } else { PLANE_FREQUENCIES }
    }

    /// Taps along x that are summed.
    pub(super) fn taps(self) -> usize {
        match self {
            Self::Volume => 1,
            Self::Plane { taps } => taps,
        }
    }

    /// All axes that can be: fastest.
    pub(crate) fn most(source: &Source<'_>) -> Self {
        match source.axes[0].taps {
            1 => Self::Plane { taps: 1 },
            _ => Self::Volume,
        }
    }

    /// What suits activations, whose rounding errors go through all layers that follow, and back.
    pub(crate) fn of_activations(source: &Source<'_>, settings: &Settings) -> Self {
        match Operands::of(settings) {
            Operands::Single => Self::most(source),
            Operands::Rounded | Operands::Pairs => Self::Plane { taps: source.axes[0].taps },
        }
    }
}

/// Whether the minimal filtering is faster than the plain sum over taps for these sizes. It is exact algebra, and in
/// f32 its rounding errors are of the same size. Matrix tiles multiply faster than it transforms.
pub(crate) fn suits(settings: &Settings, source: &Source<'_>, columns: usize) -> bool {
    let [ax, ay, az] = source.axes;
    let three = |axis: Axis| axis.taps == 3 && axis.step == 1;
    let kernel = three(ay) && three(az) && (three(ax) || (ax.taps == 1 && ax.step == 1));
    let outputs: usize = source.axes.iter().map(|axis| axis.count).product();
    let tiled_x = if ax.taps == 1 { ax.count } else { ax.count.next_multiple_of(2) };
    let tiled = tiled_x * ay.count.next_multiple_of(2) * az.count.next_multiple_of(2);
    kernel
        && !Blocking::of_neighbours(settings).has_matrix_tiles()
        && source.channels >= 8
        && columns >= 8
        && 2 * outputs >= tiled
        && source.batch * tiled >= FEWEST_OUTPUTS
}

/// Whether the weight gradient is better computed so, too: it needs sums for all frequencies per chunk.
pub(crate) fn suits_gradient(settings: &Settings, source: &Source<'_>, columns: usize) -> bool {
    suits(settings, source, columns) && chunks(source) >= 2
}

pub(super) fn chunks(source: &Source<'_>) -> usize {
    let positions: usize = source.axes.iter().map(|axis| axis.count).product();
    (source.batch * positions / POSITIONS_PER_CHUNK).min(MOST_CHUNKS)
}

const POSITIONS_PER_CHUNK: usize = 4096;
const MOST_CHUNKS: usize = 8;
