//! Tests of `segen::image::components`, against brute force and SciPy.

use ndarray::{Array3, ShapeBuilder};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen::image::components::{Connectivity, boundary, components, fill_holes};
use segen::image::distance::distance;
use segen::image::volume::{Grid, Labels};
use segen::predict::post::{self, Post, Steps};

use crate::metrics::{SurfaceCase, surface_cases};
use crate::support::data;

const CONNECTIVITIES: [Connectivity; 3] =
    [Connectivity::Six, Connectivity::Eighteen, Connectivity::TwentySix];

/// A random mask of up to 8 x 8 x 8 voxels, empty and full ones among them, in either memory order.
fn any_mask() -> impl Strategy<Value = Array3<bool>> {
    (1..8_usize, 1..8_usize, 1..8_usize, 0..=10_u32, any::<u64>(), any::<bool>()).prop_map(
        |(nx, ny, nz, tenths, seed, file_order)| {
            let mut state = seed | 1;
            let mut next = || {
                // Knuth's multiplicative generator: any spread of values will do.
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u32 % 10 < tenths
            };
            if file_order {
                Array3::from_shape_simple_fn((nx, ny, nz).f(), &mut next)
            } else {
                Array3::from_shape_simple_fn((nx, ny, nz), &mut next)
            }
        },
    )
}

/// The neighbours of a voxel inside the array.
fn neighbours(
    at: (usize, usize, usize),
    dim: (usize, usize, usize),
    connectivity: Connectivity,
) -> Vec<(usize, usize, usize)> {
    let most = match connectivity {
        Connectivity::Six => 1,
        Connectivity::Eighteen => 2,
        Connectivity::TwentySix => 3,
    };
    let mut found = Vec::new();
    for (dx, dy, dz) in (0..27).map(|i| (i % 3 - 1, i / 3 % 3 - 1, i / 9 - 1)) {
        let differing = [dx, dy, dz].iter().filter(|&&d| d != 0).count();
        let moved =
            (at.0.wrapping_add_signed(dx), at.1.wrapping_add_signed(dy), at.2.wrapping_add_signed(dz));
        let inside = moved.0 < dim.0 && moved.1 < dim.1 && moved.2 < dim.2;
        if (1..=most).contains(&differing) && inside {
            found.push(moved);
        }
    }
    found
}

/// Components by flood fill from each unvisited voxel in file order.
fn flood(mask: &Array3<bool>, connectivity: Connectivity) -> (Array3<u32>, Vec<u64>) {
    let mut labels = Array3::zeros(mask.dim());
    let mut sizes = Vec::new();
    let (nx, ny, nz) = mask.dim();
    for seed in (0..nx * ny * nz).map(|i| (i % nx, i / nx % ny, i / (nx * ny))) {
        if !mask[seed] || labels[seed] != 0 {
            continue;
        }
        let number = sizes.len() as u32 + 1;
        sizes.push(0);
        let mut open = vec![seed];
        labels[seed] = number;
        while let Some(at) = open.pop() {
            sizes[number as usize - 1] += 1;
            for next in neighbours(at, mask.dim(), connectivity) {
                if mask[next] && labels[next] == 0 {
                    labels[next] = number;
                    open.push(next);
                }
            }
        }
    }
    (labels, sizes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn components_equal_flood_fill(mask in any_mask()) {
        for connectivity in CONNECTIVITIES {
            let found = components(mask.view(), connectivity);
            let (labels, sizes) = flood(&mask, connectivity);
            prop_assert_eq!(&found.labels, &labels);
            prop_assert_eq!(&found.sizes, &sizes);
        }
    }

    #[test]
    fn distances_equal_brute_force(mask in any_mask(), spacing in prop::array::uniform3(0.1..5.0_f64)) {
        let found = distance(mask.view(), spacing);
        for (at, &millimetres) in found.indexed_iter() {
            let nearest = mask.indexed_iter().filter(|&(_, &inside)| inside).map(|(to, _)| {
                let away = [at.0.abs_diff(to.0), at.1.abs_diff(to.1), at.2.abs_diff(to.2)];
                away.iter().zip(spacing).map(|(&n, step)| (n as f64 * step).powi(2)).sum::<f64>().sqrt()
            });
            let nearest = nearest.fold(f64::INFINITY, f64::min);
            let equal = millimetres == nearest || (millimetres - nearest).abs() <= 1e-12 * nearest;
            prop_assert!(equal, "at {:?}: {} is not {}", at, millimetres, nearest);
        }
    }

    #[test]
    fn boundary_is_what_erosion_removes(mask in any_mask()) {
        for (at, &on_edge) in boundary(mask.view()).indexed_iter() {
            let around = neighbours(at, mask.dim(), Connectivity::Six);
            let eroded = around.len() == 6 && around.iter().all(|&next| mask[next]);
            prop_assert_eq!(on_edge, mask[at] && !eroded);
        }
    }

    #[test]
    fn filled_holes_are_what_the_border_cannot_reach(mask in any_mask()) {
        let filled = fill_holes(mask.view());
        let (background, sizes) = flood(&mask.mapv(|inside| !inside), Connectivity::Six);
        let mut open = vec![false; sizes.len() + 1];
        for (at, &number) in background.indexed_iter() {
            if number > 0 && neighbours(at, mask.dim(), Connectivity::Six).len() < 6 {
                open[number as usize] = true;
            }
        }
        prop_assert_eq!(filled, background.mapv(|number| !open[number as usize]));
    }

    #[test]
    fn the_largest_component_is_kept(mask in any_mask()) {
        let grid = Grid::with_spacing(mask.dim().into(), [1.0; 3]);
        let mut kept = Labels::new(mask.mapv(u8::from), grid);
        post::apply(&Steps::from([(1, Post::KeepLargest)]), &mut kept, None);
        let (labels, sizes) = flood(&mask, Connectivity::TwentySix);
        let largest = sizes.iter().max().map_or(0, |most| {
            1 + sizes.iter().position(|size| size == most).unwrap() as u32
        });
        prop_assert_eq!(kept.voxels, labels.mapv(|label| u8::from(label > 0 && label == largest)));
    }
}

#[test]
fn counts_equal_scipy() {
    let text = std::fs::read_to_string(data("metrics/scipy.json")).unwrap();
    let expected: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let cases = surface_cases();
    assert_eq!(cases.len(), expected.len());
    for (SurfaceCase { reference, .. }, expected) in cases.iter().zip(expected) {
        let found = CONNECTIVITIES.map(|c| components(reference.view(), c).sizes.len());
        assert_eq!(serde_json::json!(found), expected["components"]);
        let filled = fill_holes(reference.view()).iter().filter(|&&inside| inside).count();
        assert_eq!(serde_json::json!(filled), expected["filled"]);
    }
}

#[test]
fn an_empty_array_is_no_error() {
    let nothing = Array3::from_elem((0, 3, 2), false);
    assert!(components(nothing.view(), Connectivity::Six).sizes.is_empty());
    assert_eq!(distance(nothing.view(), [1.0; 3]).len(), 0);
    assert_eq!(boundary(nothing.view()).len(), 0);
    assert_eq!(fill_holes(nothing.view()).len(), 0);
}
