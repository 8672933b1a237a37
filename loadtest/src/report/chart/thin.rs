//! Fewer points where more could not be told apart.

/// At most four points for each of so many columns, the first, the least, the greatest and the last of
/// what falls into it, so that no peak is lost. What is no number stays, once in a row. Points that do
/// not go from left to right stay as they are.
pub(super) fn thin(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    let is_ordered = points.is_sorted_by(|a, b| a.0 <= b.0);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let width = (last.0 - first.0) / columns as f64;
    if points.len() <= 4 * columns || !is_ordered || !(width.is_finite() && width > 0.0) {
        return points.to_vec();
    }
    let column = |point: &(f64, f64)| ((point.0 - first.0) / width) as usize;
    let alike = |a: &(f64, f64), b: &(f64, f64)| {
        column(a) == column(b) && a.1.is_finite() == b.1.is_finite()
    };
    let mut kept = Vec::new();
    for group in points.chunk_by(alike) {
        let mut of_group = vec![0, group.len() - 1];
        let values = || group.iter().map(|point| point.1).enumerate();
        of_group.extend(
            values()
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map(|(at, _)| at),
        );
        of_group.extend(
            values()
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .map(|(at, _)| at),
        );
        of_group.sort_unstable();
        of_group.dedup();
        kept.extend(of_group.into_iter().map(|at| group[at]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::thin;

    #[test]
    fn no_peak_and_no_gap_is_lost_among_ten_thousand_points() {
        let mut points = (0..10_000)
            .map(|at| (f64::from(at), f64::from(at % 7)))
            .collect::<Vec<_>>();
        points[4321].1 = 99.0;
        points[7010].1 = f64::NAN;
        let thinned = thin(&points, 300);
        assert!(thinned.len() <= 1210, "{}", thinned.len());
        assert!(thinned.contains(&(4321.0, 99.0)));
        assert!(thinned.iter().any(|point| point.1.is_nan()));
        // The gap is as wide as it was: both its neighbours are there.
        assert!(thinned.contains(&points[7009]) && thinned.contains(&points[7011]));
        assert_eq!(
            (thinned.first(), thinned.last()),
            (points.first(), points.last())
        );
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thin(&points[..100], 300), &points[..100]);
    }
}
