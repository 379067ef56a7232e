//! Pictures of bars, as SVG text.

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
pub const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
pub const FAINT: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
pub const FONT: &str = "system-ui, sans-serif";
/// Pixels.
const WIDTH: i32 = 960;
const LABELS: i32 = 230;
const RIGHT: i32 = 90;
const TOP: i32 = 34;
const BAR: i32 = 13;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A picture as text.
pub type Drawn = Result<String, Box<dyn Error>>;

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

/// Height of a line of a legend.
const LEGEND: i32 = 20;

/// A name of a legend: whose it is, and how far from the left it stands.
struct Entry<'a> {
    series: usize,
    name: &'a str,
    x: i32,
}

/// The lines of a legend of those of `names` that are `shown`, none of which is wider than the picture.
fn legend_lines<'a>(names: &'a [String], shown: &[usize]) -> Vec<Vec<Entry<'a>>> {
    let mut lines = vec![Vec::new()];
    let mut x = LABELS;
    for (series, name) in shown.iter().map(|&series| (series, &names[series])) {
        let width = 38 + 7 * name.chars().count() as i32;
        if x + width > WIDTH && x > LABELS {
            lines.push(Vec::new());
            x = LABELS;
        }
        if let Some(line) = lines.last_mut() {
            line.push(Entry { series, name, x });
        }
        x += width;
    }
    lines
}

/// Where what is below a legend begins.
fn below(legend: &[Vec<Entry<'_>>]) -> i32 {
    TOP + LEGEND * (legend.len().max(1) as i32 - 1)
}

fn draw_legend(area: &Area<'_>, legend: &[Vec<Entry<'_>>]) -> Result<(), Box<dyn Error>> {
    for (n, line) in legend.iter().enumerate() {
        let y = 16 + LEGEND * n as i32;
        for entry in line {
            let corners = [(entry.x, y - 6), (entry.x + 12, y + 6)];
            area.draw(&Rectangle::new(corners, colour(entry.series).filled()))?;
            write(area, entry.name, 13, (entry.x + 18, y), HPos::Left)?;
        }
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

/// An axis from left to right.
struct Axis {
    logarithmic: bool,
    /// Its ends: of a logarithmic one, their logarithms.
    least: f64,
    most: f64,
    /// Where bars begin.
    origin: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Powers, with a line at 1.
    fn logarithmic(values: impl Iterator<Item = f64> + Clone) -> Self {
        const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
        const FINE: [f64; 13] = [
            0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0, 2.5,
        ];
        // So far apart, fine ones would stand too close to each other.
        const FAR: f64 = 1.2;
        let least = values.clone().fold(0.8, f64::min).ln();
        let most = values.fold(1.25, f64::max).ln() + 0.05;
        let coarse = (-3..4).flat_map(|power| STEPS.map(|step| step * 10_f64.powi(power)));
        Self {
            logarithmic: true,
            least,
            most,
            origin: 1.0,
            ticks: match most - least < FAR {
                true => FINE.into(),
                false => coarse.collect(),
            },
        }
    }

    /// Amounts, from 0.
    fn linear(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(0.0, f64::min);
        let most = values.fold(0.0, f64::max);
        let most = if most > least { most } else { least + 1.0 };
        let power = 10_f64.powf(((most - least) / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = step.into_iter().find(|step| (most - least) / step <= 6.0);
        let step = step.unwrap_or(most - least);
        let first = (least / step).ceil() as i64;
        Self {
            logarithmic: false,
            least,
            most,
            origin: 0.0,
            ticks: (first..first + 8).map(|n| n as f64 * step).collect(),
        }
    }

    /// How far along it a value is.
    fn part(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.ln() } else { value };
        (value - self.least) / (self.most - self.least)
    }

    fn place(&self, value: f64) -> i32 {
        LABELS + (self.part(value) * f64::from(WIDTH - LABELS - RIGHT)) as i32
    }
}

/// Horizontal bars of ratios on a logarithmic axis, with a line at 1.
///
/// # Errors
///
/// Those of the drawing library.
pub fn ratios(series: &[String], rows: &[Row]) -> Drawn {
    let values = rows.iter().flat_map(|row| row.values.iter().flatten());
    let axis = Axis::logarithmic(values.copied());
    grouped(series, rows, &axis, |tick| format!("{tick}×"), ratio)
}

/// Horizontal bars of amounts of a unit.
///
/// # Errors
///
/// Those of the drawing library.
pub fn amounts(series: &[String], rows: &[Row], unit: &str) -> Drawn {
    let values = rows.iter().flat_map(|row| row.values.iter().flatten());
    let axis = Axis::linear(values.copied());
    let exact = |value: f64| match value.abs() {
        0.0..10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    };
    grouped(series, rows, &axis, |tick| format!("{tick} {unit}"), exact)
}

fn grouped(
    series: &[String],
    rows: &[Row],
    axis: &Axis,
    tick_label: impl Fn(f64) -> String,
    label: impl Fn(f64) -> String,
) -> Drawn {
    // A series without a value leaves no gaps, and all others have the colours that they have elsewhere.
    let has_values = |series: &usize| {
        let mut values = rows.iter().map(|row| row.values.get(*series));
        values.any(|value| value.is_some_and(Option::is_some))
    };
    let shown: Vec<usize> = (0..series.len()).filter(has_values).collect();
    let legend = legend_lines(series, &shown);
    let begin = below(&legend);
    let group = BAR * shown.len().max(1) as i32 + 10;
    let height = begin + group * rows.len() as i32 + 30;
    draw(height, |area| {
        draw_legend(area, &legend)?;
        let ticks = axis.ticks.iter();
        for &tick in ticks.filter(|tick| (0.0..=1.0).contains(&axis.part(**tick))) {
            let x = axis.place(tick);
            let style = match tick == axis.origin {
                true => INK.stroke_width(1),
                false => FAINT.stroke_width(1),
            };
            area.draw(&PathElement::new([(x, begin), (x, height - 26)], style))?;
            write(area, &tick_label(tick), 12, (x, height - 12), HPos::Center)?;
        }
        for (n, row) in rows.iter().enumerate() {
            let top = begin + 4 + n as i32 * group;
            let middle = top + (group - 10) / 2;
            write(area, &row.label, 13, (LABELS - 12, middle), HPos::Right)?;
            for (n, &series) in shown.iter().enumerate() {
                let Some(value) = row.values[series] else {
                    continue;
                };
                let y = top + n as i32 * BAR;
                let ends = [axis.place(axis.origin), axis.place(value)];
                let (from, to) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                let bar = Rectangle::new(
                    [(from, y), (to.max(from + 1), y + BAR - 2)],
                    colour(series).filled(),
                );
                area.draw(&bar)?;
                let at = (to + 5, y + BAR / 2 - 1);
                write(area, &label(value), 11, at, HPos::Left)?;
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

/// Horizontal bars of parts that add up, with their sums, of a unit.
///
/// # Errors
///
/// Those of the drawing library.
pub fn stacked(parts: &[String], rows: &[Row], unit: &str) -> Drawn {
    let step = 2 * BAR + 6;
    let legend = legend_lines(parts, &Vec::from_iter(0..parts.len()));
    let top = below(&legend);
    let height = top + step * rows.len() as i32 + 14;
    let total = |row: &Row| row.values.iter().flatten().sum::<f64>();
    let most = rows.iter().map(total).fold(1.0, f64::max);
    let scale = f64::from(WIDTH - LABELS - RIGHT) / most;
    draw(height, |area| {
        draw_legend(area, &legend)?;
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
            let sum_label = format!("{} {unit}", thousands(sum.round() as u64));
            let at = (LABELS + (sum * scale) as i32 + 6, y + BAR - 1);
            write(area, sum_label.trim_end(), 12, at, HPos::Left)?;
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
    fn legend_goes_on_in_the_next_line() {
        let names: Vec<String> = (0..9).map(|n| format!("fv:lazy-shadow {n}")).collect();
        let lines = legend_lines(&names, &Vec::from_iter(0..9));
        assert_eq!(lines.iter().flatten().count(), 9);
        assert!(lines.len() > 1);
        let widest = lines.iter().flatten().map(|entry| entry.x).max();
        assert!(widest < Some(WIDTH), "{widest:?}");
    }

    #[test]
    fn linear_axis_has_round_ticks_and_holds_what_is_below_0() {
        let axis = Axis::linear([-0.3, 11.1].into_iter());
        assert!(axis.ticks.starts_with(&[0.0, 2.0, 4.0]), "{:?}", axis.ticks);
        assert_eq!((axis.part(-0.3), axis.part(11.1)), (0.0, 1.0));
        let nothing = Axis::linear(std::iter::empty());
        assert!(nothing.part(0.0).is_finite());
    }

    #[test]
    fn every_value_has_its_bar() {
        let row = Row {
            label: "a & b".into(),
            values: vec![Some(2.0), None, Some(0.5)],
        };
        let series = ["x", "y", "z"].map(String::from);
        let text = ratios(&series, &[row]).unwrap();
        // Two bars beside the page and their swatches of the legend.
        assert_eq!(text.matches("<rect").count(), 5, "{text}");
        assert!(text.contains("a &amp; b") && text.contains("2.00×"));
    }
}
