//! Pictures, as SVG text.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that also people with impaired colour vision can tell apart.
///
/// Source: Okabe, Ito, *Color Universal Design*, 2008.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x99, 0x99, 0x44),
    RGBColor(0x77, 0x77, 0x77),
];
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const FAINT: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
const FONT: &str = "system-ui, sans-serif";
/// Pixels.
const WIDTH: i32 = 960;
const LABELS: i32 = 230;
const RIGHT: i32 = 90;
const TOP: i32 = 34;
const BAR: i32 = 13;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<String, Box<dyn Error>>;

/// The colour of a series.
pub fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

fn write(
    area: &Area<'_>,
    text: &str,
    size: i32,
    at: (i32, i32),
    anchor: HPos,
) -> Result<(), Box<dyn Error>> {
    let style = (FONT, size).into_font().color(&INK);
    let style = style.pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text, at, style))?;
    Ok(())
}

fn legend(area: &Area<'_>, names: &[String]) -> Result<(), Box<dyn Error>> {
    let mut x = LABELS;
    for (n, name) in names.iter().enumerate() {
        area.draw(&Rectangle::new([(x, 10), (x + 12, 22)], colour(n).filled()))?;
        write(area, name, 13, (x + 18, 16), HPos::Left)?;
        x += 40 + 7 * name.chars().count() as i32;
    }
    Ok(())
}

/// A row of bars that belong together.
pub struct Row {
    /// Its name.
    pub label: String,
    /// A value for each series; `None` where there is none.
    pub values: Vec<Option<f64>>,
}

/// Horizontal bars of ratios on a logarithmic axis, with a line at 1.
///
/// # Errors
///
/// Those of the drawing library.
pub fn ratios(series: &[String], rows: &[Row]) -> Drawn {
    let group = BAR * series.len().max(1) as i32 + 10;
    let height = TOP + group * rows.len() as i32 + 30;
    let values = || rows.iter().flat_map(|row| row.values.iter().flatten());
    let least = values().copied().fold(0.8, f64::min).ln();
    let most = values().copied().fold(1.25, f64::max).ln() + 0.05;
    let place = |value: f64| {
        let part = (value.ln() - least) / (most - least);
        LABELS + (part * f64::from(WIDTH - LABELS - RIGHT)) as i32
    };
    draw(height, |area| {
        legend(area, series)?;
        for tick in [
            0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
        ] {
            if (least..most).contains(&f64::ln(tick)) {
                let x = place(tick);
                let style = match tick == 1.0 {
                    true => INK.stroke_width(1),
                    false => FAINT.stroke_width(1),
                };
                area.draw(&PathElement::new([(x, TOP), (x, height - 26)], style))?;
                write(
                    area,
                    &format!("{tick}×"),
                    12,
                    (x, height - 12),
                    HPos::Center,
                )?;
            }
        }
        for (n, row) in rows.iter().enumerate() {
            let top = TOP + 4 + n as i32 * group;
            let middle = top + (group - 10) / 2;
            write(area, &row.label, 13, (LABELS - 12, middle), HPos::Right)?;
            for (series, value) in row.values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let y = top + series as i32 * BAR;
                let (from, to) = (place(1.0).min(place(value)), place(1.0).max(place(value)));
                let bar = Rectangle::new(
                    [(from, y), (to.max(from + 1), y + BAR - 2)],
                    colour(series).filled(),
                );
                area.draw(&bar)?;
                write(
                    area,
                    &ratio(value),
                    11,
                    (to + 5, y + BAR / 2 - 1),
                    HPos::Left,
                )?;
            }
        }
        Ok(())
    })
}

/// A ratio with as many digits as say something.
pub fn ratio(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}×"),
        10.0..100.0 => format!("{value:.1}×"),
        _ => format!("{value:.0}×"),
    }
}

/// Horizontal bars of parts that add up.
///
/// # Errors
///
/// Those of the drawing library.
pub fn stacked(parts: &[String], rows: &[Row]) -> Drawn {
    let step = 2 * BAR + 6;
    let lines = parts.len().div_ceil(6) as i32;
    let top = TOP + 20 * (lines - 1).max(0);
    let height = top + step * rows.len() as i32 + 14;
    let total = |row: &Row| row.values.iter().flatten().sum::<f64>();
    let most = rows.iter().map(total).fold(1.0, f64::max);
    let scale = f64::from(WIDTH - LABELS - RIGHT) / most;
    draw(height, |area| {
        for (n, line) in parts.chunks(6).enumerate() {
            let mut x = LABELS;
            for (m, name) in line.iter().enumerate() {
                let y = 16 + 20 * n as i32;
                let swatch =
                    Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour(6 * n + m).filled());
                area.draw(&swatch)?;
                write(area, name, 13, (x + 18, y), HPos::Left)?;
                x += 38 + 7 * name.chars().count() as i32;
            }
        }
        for (n, row) in rows.iter().enumerate() {
            let y = top + 4 + n as i32 * step;
            write(area, &row.label, 13, (LABELS - 12, y + BAR), HPos::Right)?;
            let mut sum = 0.0;
            for (part, value) in row.values.iter().enumerate() {
                let from = LABELS + (sum * scale) as i32;
                sum += value.unwrap_or(0.0);
                let to = LABELS + (sum * scale) as i32;
                if to > from {
                    let bar =
                        Rectangle::new([(from, y), (to, y + 2 * BAR - 2)], colour(part).filled());
                    area.draw(&bar)?;
                }
            }
            let end = LABELS + (sum * scale) as i32 + 6;
            write(
                area,
                &thousands(sum as u64),
                12,
                (end, y + BAR - 1),
                HPos::Left,
            )?;
        }
        Ok(())
    })
}

/// A number with its thousands apart.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join("\u{202f}")
}

/// Shares over time, a line for each guest, and the even share dashed; of many guests, not up to all
/// of the card, so that their lines can be told apart.
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
        let area = SVGBackend::with_string(&mut text, (470, 220)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 15).into_font().color(&INK))
            .margin(8)
            .x_label_area_size(30)
            .y_label_area_size(42)
            .build_cartesian_2d(0.0..windows.len().max(2) as f64 - 1.0, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .y_labels(5)
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .x_label_formatter(&|window| format!("{window:.0}"))
            .x_desc("window of 1 s")
            .label_style((FONT, 12).into_font().color(&INK))
            .draw()?;
        let dashes = (0..windows.len().max(2)).step_by(2).map(|n| {
            let from = n as f64;
            PathElement::new([(from, even), (from + 0.6, even)], INK.mix(0.5))
        });
        chart.draw_series(dashes)?;
        for guest in 0..guests {
            let points = windows.iter().enumerate();
            let points = points.map(|(n, shares)| (n as f64, shares[guest]));
            chart.draw_series(LineSeries::new(points, colour(guest).stroke_width(2)))?;
            // Which is whose, from the right.
            let at = (462 - 20 * (guests - guest) as i32, 34);
            let own = (FONT, 13).into_font().color(&colour(guest));
            area.draw(&Text::new(guest.to_string(), at, own))?;
        }
        let at = (462 - 20 * guests as i32 - 44, 34);
        let head = (FONT, 13).into_font().color(&INK);
        area.draw(&Text::new("guest", at, head))?;
        area.present()?;
    }
    Ok(text)
}

fn draw(height: i32, content: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn Error>>) -> Drawn {
    let mut text = String::new();
    {
        let size = (WIDTH as u32, height as u32);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        // On a dark page, too, ink is dark.
        area.fill(&WHITE)?;
        content(&area)?;
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn every_value_has_its_bar() {
        let row = Row {
            label: "a & b".into(),
            values: vec![Some(2.0), None, Some(0.5)],
        };
        let series = ["x", "y", "z"].map(String::from);
        let text = ratios(&series, &[row]).unwrap();
        // Two bars beside the page and three swatches of the legend.
        assert_eq!(text.matches("<rect").count(), 6, "{text}");
        assert!(text.contains("a &amp; b") && text.contains("2.00×"));
    }
}
