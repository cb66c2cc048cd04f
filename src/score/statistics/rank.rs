//! Ranks, and the correlation of ranks.

/// Ranks from 1; equal values share the mean of theirs. Also the sizes of the groups of equal values.
pub(super) fn ranks(values: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut groups) = (vec![0.0; values.len()], Vec::new());
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let size = order[start..].iter().take_while(|&&i| values[i] == value).count().max(1);
        for &i in &order[start..start + size] {
            // Ranks start + 1 to start + size.
            ranks[i] = start as f64 + 0.5 * (size + 1) as f64;
        }
        groups.push(size);
        start += size;
    }
    (ranks, groups)
}

/// Spearman's rank correlation of paired values, in [-1, 1]. `None` for fewer than two pairs, or where one side
/// does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "values come in pairs");
    let (a, b) = (ranks(x).0, ranks(y).0);
    let middle = 0.5 * (x.len() + 1) as f64;
    let product =
        |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| (p - middle) * (q - middle)).sum() };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}
