//! The diffusion that `srad` and `srad2` compute, for the CPU.

/// Speckle of a region of `count` pixels: its variance relative to the square of its mean.
pub fn speckle(sum: f64, squares: f64, count: usize) -> f64 {
    let mean = sum / count as f64;
    let variance = squares / count as f64 - mean * mean;
    variance / (mean * mean)
}

/// One step of a square image with rows of `n` pixels. Beyond an edge, its own pixel counts.
pub fn step(image: &mut [f64], n: usize, q0: f64, lambda: f64) {
    let differences = |at: usize| {
        let (x, y) = (at % n, at / n);
        [
            y.saturating_sub(1) * n + x,
            (y + 1).min(n - 1) * n + x,
            y * n + x.saturating_sub(1),
            y * n + (x + 1).min(n - 1),
        ]
        .map(|neighbour| image[neighbour] - image[at])
    };
    let coefficient = |at: usize| {
        let (here, d) = (image[at], differences(at));
        let gradient = d.iter().map(|d| d * d).sum::<f64>() / (here * here);
        let laplacian = d.iter().sum::<f64>() / here;
        let numerator = 0.5 * gradient - laplacian * laplacian / 16.0;
        let q = numerator / (1.0 + 0.25 * laplacian).powi(2);
        (1.0 / (1.0 + (q - q0) / (q0 * (1.0 + q0)))).clamp(0.0, 1.0)
    };
    let c: Vec<f64> = (0..image.len()).map(coefficient).collect();
    let change = |at: usize| {
        let (x, y) = (at % n, at / n);
        let [north, south, west, east] = differences(at);
        let (below, right) = (c[(y + 1).min(n - 1) * n + x], c[y * n + (x + 1).min(n - 1)]);
        0.25 * lambda * (c[at] * (north + west) + below * south + right * east)
    };
    let changes: Vec<f64> = (0..image.len()).map(change).collect();
    for (pixel, change) in image.iter_mut().zip(changes) {
        *pixel += change;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speckle_of_two_pixels() {
        // Mean 2, variance 1.
        assert_eq!(speckle(4.0, 10.0, 2), 0.25);
    }

    #[test]
    fn even_image_stays() {
        let mut image = vec![2.0; 9];
        step(&mut image, 3, 0.1, 0.5);
        assert_eq!(image, vec![2.0; 9]);
    }

    #[test]
    fn two_pixels_below_the_speckle_level_diffuse_fully() {
        // In both pixels (q - q0) is so far below zero that the coefficient is limited to 1.
        let mut image = vec![1.0, 1.1, 1.0, 1.1];
        step(&mut image, 2, 10.0, 0.5);
        for (pixel, expected) in image.iter().zip([1.0125, 1.0875, 1.0125, 1.0875]) {
            assert!((pixel - expected).abs() < 1e-12, "{image:?}");
        }
    }
}
