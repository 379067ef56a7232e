//! Pictures of shares over time, as SVG text.

use plotters::chart::ChartContext;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::figures::{Drawn, FAINT, FONT, INK, colour};

/// Width and height.
const SIZE: (u32, u32) = (470, 230);
/// So many guests have lines of their own.
const LINES: usize = 8;
/// How much of the colour of a band is left.
const BAND: f64 = 0.25;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Shares by window of a second, and in it by guest: a line for each guest or, of more than eight,
/// the middle one of all and the band from the least to the most; the even share is dashed. Of many
/// guests, the axis does not go up to all of the card, so that they can be told apart.
///
/// # Errors
///
/// Those of the drawing library.
pub fn shares(title: &str, windows: &[Vec<f64>]) -> Drawn {
    let guests = windows.first().map_or(0, Vec::len);
    let even = 1.0 / guests.max(1) as f64;
    let most = windows.iter().flatten().copied().fold(0.0, f64::max);
    let top = (3.0 * even).max(1.25 * most).min(1.0);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 15).into_font().color(&INK))
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..windows.len().max(2) as f64 - 1.0, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .y_labels(5)
            .y_label_formatter(&|share| percent(*share, top))
            .x_label_formatter(&|window| format!("{window:.0}"))
            .x_desc("seconds")
            .label_style((FONT, 12).into_font().color(&INK))
            .draw()?;
        match guests {
            0..=LINES => each(&mut chart, windows, guests)?,
            _ => band(&mut chart, windows)?,
        }
        let dashes = (0..windows.len().max(2)).step_by(2).map(|n| {
            let from = n as f64;
            PathElement::new([(from, even), (from + 0.6, even)], INK.mix(0.5))
        });
        chart.draw_series(dashes)?;
        let of_width = |from_right: i32| (SIZE.0 as i32 - 8 - from_right, 34);
        let own = |colour: &RGBColor| (FONT, 13).into_font().color(colour);
        if guests <= LINES {
            // Which is whose, from the right.
            for guest in 0..guests {
                let at = of_width(20 * (guests - guest) as i32);
                let style = own(&colour(guest));
                area.draw(&Text::new(guest.to_string(), at, style))?;
            }
            let at = of_width(20 * guests as i32 + 44);
            area.draw(&Text::new("guest", at, own(&INK)))?;
        } else {
            let of = format!("{guests} guests: least, middle, most");
            area.draw(&Text::new(of, of_width(210), own(&colour(0))))?;
        }
        area.present()?;
    }
    Ok(text)
}

/// A share with as many digits as an axis up to `top` needs.
fn percent(share: f64, top: f64) -> String {
    let digits = match top {
        0.2.. => 0,
        0.02.. => 1,
        _ => 2,
    };
    format!("{:.digits$} %", share * 100.0)
}

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn each(chart: &mut Chart<'_, '_>, windows: &[Vec<f64>], guests: usize) -> Result {
    for guest in 0..guests {
        let points = windows.iter().enumerate();
        let points = points.map(|(n, shares)| (n as f64, shares[guest]));
        chart.draw_series(LineSeries::new(points, colour(guest).stroke_width(2)))?;
    }
    Ok(())
}

fn band(chart: &mut Chart<'_, '_>, windows: &[Vec<f64>]) -> Result {
    let sorted: Vec<Vec<f64>> = windows
        .iter()
        .map(|shares| {
            let mut shares = shares.clone();
            shares.sort_unstable_by(f64::total_cmp);
            shares
        })
        .collect();
    let at = |place: fn(usize) -> usize| {
        let points = sorted.iter().enumerate();
        points.map(move |(n, shares)| (n as f64, shares[place(shares.len())]))
    };
    let outline: Vec<(f64, f64)> = at(|_| 0)
        .chain(
            at(|guests| guests - 1)
                .collect::<Vec<_>>()
                .into_iter()
                .rev(),
        )
        .collect();
    chart.draw_series([Polygon::new(outline, colour(0).mix(BAND).filled())])?;
    let middle = at(|guests| guests / 2);
    chart.draw_series(LineSeries::new(middle, colour(0).stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(guests: usize) -> String {
        let window: Vec<f64> = (1..=guests).map(|n| n as f64 / 1e4).collect();
        shares("a title", &[window.clone(), window]).unwrap()
    }

    #[test]
    fn few_guests_have_lines_and_many_a_band() {
        let few = lines_of(3);
        assert!(!few.contains("<polygon") && few.contains("guest"), "{few}");
        let many = lines_of(300);
        assert_eq!(many.matches("<polygon").count(), 1, "{many}");
        assert!(many.contains("300 guests"));
    }

    #[test]
    fn small_shares_have_digits() {
        assert_eq!(percent(0.25, 0.75), "25 %");
        assert_eq!(percent(0.0125, 0.05), "1.2 %");
        assert_eq!(percent(0.00125, 0.01), "0.12 %");
    }
}
