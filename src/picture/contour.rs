//! Outline of one class in a slice.

use ndarray::ArrayView2;

/// Closed outlines around the cells of `labels` that hold `class`, by marching squares at the half level: they
/// run through the middles between inside and outside cell centres. Cell (i, j) has its centre at
/// (i + 0.5, j + 0.5). Inside lies to the right of the direction of travel (with j downwards); cells that
/// touch only at a corner are kept apart.
pub(super) fn outlines(labels: ArrayView2<'_, u8>, class: u8) -> Vec<Vec<[f32; 2]>> {
    let (width, height) = labels.dim();
    let inside = |i: usize, j: usize| {
        // Indices are shifted by one, so that the border is outside.
        (1..=width).contains(&i) && (1..=height).contains(&j) && labels[[i - 1, j - 1]] == class
    };
    // Each square between four cell centres has up to two pieces of outline. A piece goes from the middle of
    // one side to that of another; it is stored under the side where it begins.
    let mut next = std::collections::BTreeMap::new();
    for i in 0..=width {
        for j in 0..=height {
            let corners = [inside(i, j), inside(i + 1, j), inside(i + 1, j + 1), inside(i, j + 1)];
            // Side k lies between corner k and corner k + 1. Going around, inside begins at an "out, in" side
            // and ends at the following "in, out" side.
            for k in 0..4 {
                if !corners[k] && corners[(k + 1) % 4] {
                    let mut end = (k + 1) % 4;
                    while corners[(end + 1) % 4] {
                        end = (end + 1) % 4;
                    }
                    next.insert(middle(i, j, k), middle(i, j, end));
                }
            }
        }
    }
    let mut found = Vec::new();
    while let Some((start, mut at)) = next.pop_first() {
        let mut outline = vec![start];
        while at != start {
            outline.push(at);
            match next.remove(&at) {
                Some(to) => at = to,
                None => break,
            }
        }
        // Twice the coordinate counts from cell centre -1; back to cells.
        let cell = |p: (usize, usize)| [0.5 * p.0 as f32 - 0.5, 0.5 * p.1 as f32 - 0.5];
        found.push(outline.into_iter().map(cell).collect());
    }
    found
}

/// Twice the position of the middle of side `k` of the square at (i, j).
fn middle(i: usize, j: usize, k: usize) -> (usize, usize) {
    let (x, y) = [(1, 0), (2, 1), (1, 2), (0, 1)][k];
    (2 * i + x, 2 * j + y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Signed area by the shoelace formula.
    fn area(outline: &[[f32; 2]]) -> f32 {
        (0..outline.len())
            .map(|i| {
                let (a, b) = (outline[i], outline[(i + 1) % outline.len()]);
                0.5 * (a[0] * b[1] - b[0] * a[1])
            })
            .sum()
    }

    #[test]
    fn one_cell_is_a_diamond_around_its_centre() {
        let mut labels = Array2::zeros((4, 5));
        labels[[2, 3]] = 7;
        let outlines = outlines(labels.view(), 7);
        assert_eq!(outlines.len(), 1);
        assert_eq!(outlines[0].len(), 4);
        let mean = |axis: usize| outlines[0].iter().map(|p| p[axis]).sum::<f32>() / 4.0;
        assert_eq!([mean(0), mean(1)], [2.5, 3.5]);
        assert!((area(&outlines[0]).abs() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_block_loses_its_corners_and_a_hole_turns_the_other_way() {
        let mut labels = Array2::from_elem((5, 5), 1);
        assert_eq!(outlines(labels.view(), 1).len(), 1, "the border of the array closes the outline");
        let full = area(&outlines(labels.view(), 1)[0]);
        assert!((full.abs() - (25.0 - 0.5)).abs() < 1e-5, "{full}");
        labels[[2, 2]] = 0;
        let both = outlines(labels.view(), 1);
        assert_eq!(both.len(), 2);
        let total: f32 = both.iter().map(|o| area(o)).sum();
        assert!((total.abs() - (25.0 - 0.5 - 0.5)).abs() < 1e-5, "{total}");
    }

    #[test]
    fn corner_neighbours_are_kept_apart() {
        let labels = Array2::from_shape_fn((2, 2), |(i, j)| u8::from(i == j));
        assert_eq!(outlines(labels.view(), 1).len(), 2);
        assert!(outlines(labels.view(), 3).is_empty());
    }
}
