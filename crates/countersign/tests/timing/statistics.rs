//! Whether two samples differ by more than chance.

/// Beyond this part of both samples together, what took longer is the machine's.
const KEPT: f64 = 0.9;

/// Both samples without what took longest. The bound is the same for both: a difference between them stays
/// one.
pub(crate) fn trimmed(samples: [Vec<f64>; 2]) -> [Vec<f64>; 2] {
    let mut all = samples.concat();
    all.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand samples"
    )]
    let bound = all[(all.len() as f64 * KEPT) as usize];
    samples.map(|sample| sample.into_iter().filter(|time| *time < bound).collect())
}

/// Welch's t: how many standard errors the means are apart (B. L. Welch, Biometrika 34, 1947).
pub(crate) fn welch_t(one: &[f64], other: &[f64]) -> f64 {
    let [(one_mean, one_error), (other_mean, other_error)] = [one, other].map(mean_and_error);
    (one_mean - other_mean) / (one_error + other_error).sqrt()
}

/// The mean, and the square of its standard error.
fn mean_and_error(sample: &[f64]) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand samples")]
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let squares = sample.iter().map(|value| (value - mean).powi(2));
    (mean, squares.sum::<f64>() / (count - 1.0) / count)
}

#[test]
fn the_t_of_a_textbook_is_found() {
    // Computed by hand: means 19.37 and 21.59, squared standard errors 0.145 and 0.856.
    let one = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0];
    let other = [
        28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7, 23.2, 17.5, 20.6, 18.0, 23.9,
        21.6, 24.3, 20.4, 24.0, 13.2,
    ];
    let t = welch_t(&one, &other);
    assert!((t + 2.22).abs() < 0.02, "{t}");
}

#[test]
fn a_difference_of_a_third_of_the_noise_is_found_in_two_thousand() {
    // A sawtooth is noise enough, and the same each time.
    let noise = |index: u32| f64::from(index * 7_919 % 1_000);
    let one: Vec<_> = (0..2_000).map(noise).collect();
    let other: Vec<_> = (0..2_000).map(|index| noise(index) + 100.0).collect();
    let [one, other] = trimmed([one, other]);
    assert!(welch_t(&one, &other).abs() > 4.5);
    assert!(welch_t(&one, &one).abs() < 1e-9);
}
