//! `gpuvm top`: what machines make of their cards, live.

mod rates;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table};

use self::rates::{Counters, MachineRates};
use crate::control::{Action, Client, Reply, Request};

/// Arguments of `gpuvm top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control socket, as given to `gpuvm run --control` or `gpuvm serve --control`.
    socket: PathBuf,

    /// Milliseconds between two looks.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval: u64,

    /// Look twice, print a table and end. So it also does where there is no terminal.
    #[arg(long)]
    once: bool,
}

/// Asks for counters again and again.
struct Watch {
    client: Client,
    last: BTreeMap<String, Counters>,
    at: Instant,
}

impl Watch {
    fn new(mut client: Client) -> anyhow::Result<Self> {
        let last = counters(&mut client)?;
        Ok(Self {
            client,
            last,
            at: Instant::now(),
        })
    }

    fn look(&mut self) -> anyhow::Result<Vec<MachineRates>> {
        let now = counters(&mut self.client)?;
        let elapsed = self.at.elapsed();
        let nothing = Counters::new();
        let machines = now
            .iter()
            .map(|(name, now)| {
                let before = self.last.get(name).unwrap_or(&nothing);
                MachineRates::new(name, before, now, elapsed)
            })
            .collect();
        self.last = now;
        self.at = Instant::now();
        Ok(machines)
    }
}

/// The counters of all machines; of one that does not run, none.
fn counters(client: &mut Client) -> anyhow::Result<BTreeMap<String, Counters>> {
    let request = Request {
        vm: None,
        action: Action::Counters,
    };
    match client.call(&request)? {
        Reply::Counters(counters) => Ok([("vm".to_owned(), counters)].into()),
        Reply::All(all) => Ok(all
            .into_iter()
            .map(|(name, reply)| match reply {
                Reply::Counters(counters) => (name, counters),
                _ => (name, Counters::new()),
            })
            .collect()),
        Reply::Error(reason) => bail!("The machine refused: {reason}"),
        other => bail!("{other:?} is no answer to a question for counters"),
    }
}

/// Shows rates until the user has seen enough or the machines are gone.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&args.socket)
        .with_context(|| format!("Cannot reach a machine at {}", args.socket.display()))?;
    let mut watch = Watch::new(client)?;
    let interval = Duration::from_millis(args.interval);
    if args.once || !io::stdout().is_terminal() {
        std::thread::sleep(interval);
        print(&watch.look()?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::init();
    let result = (|| -> anyhow::Result<()> {
        let mut machines = Vec::new();
        loop {
            terminal.draw(|frame| draw(frame, &machines))?;
            let next = watch.at + interval;
            if event::poll(next.saturating_duration_since(Instant::now()))? {
                if let Event::Key(key) = event::read()?
                    && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                        || key.code == KeyCode::Char('c')
                            && key.modifiers.contains(KeyModifiers::CONTROL))
                {
                    return Ok(());
                }
            } else {
                machines = watch.look()?;
            }
        }
    })();
    ratatui::restore();
    result?;
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 9] = [
    "machine",
    "exits/s",
    "GPU",
    "share",
    "queue",
    "flushes/s",
    "PTE read/s",
    "PTE write/s",
    "irqs/s",
];
const CHANNEL_HEAD: [&str; 5] = ["machine", "channel", "doorbells/s", "GPU", "wait ms"];

/// The cells of a machine; its share is that of the time of all.
fn cells(machine: &MachineRates, all: f64) -> [String; 9] {
    let share = if all > 0.0 { machine.busy / all } else { 0.0 };
    [
        machine.name.clone(),
        short(machine.accesses),
        percent(machine.busy),
        percent(share),
        machine.waiting.to_string(),
        short(machine.flushes),
        short(machine.scanned),
        short(machine.written),
        short(machine.events),
    ]
}

fn channel_cells(machines: &[MachineRates]) -> Vec<[String; 5]> {
    let channels = machines.iter().flat_map(|machine| {
        machine
            .channels
            .iter()
            .map(move |channel| (machine, channel))
    });
    channels
        .map(|(machine, channel)| {
            [
                machine.name.clone(),
                channel.number.to_string(),
                short(channel.doorbells),
                percent(channel.busy),
                format!("{:.2}", channel.wait_ms),
            ]
        })
        .collect()
}

fn total(machines: &[MachineRates]) -> f64 {
    machines.iter().map(|machine| machine.busy).sum()
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// A rate in few characters.
fn short(rate: f64) -> String {
    match rate {
        0.0..1e4 => format!("{rate:.0}"),
        1e4..1e7 => format!("{:.0}k", rate / 1e3),
        _ => format!("{:.0}M", rate / 1e6),
    }
}

fn draw(frame: &mut Frame<'_>, machines: &[MachineRates]) {
    let [above, below, foot] = Layout::vertical([
        Constraint::Length(machines.len() as u16 + 3),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let all = total(machines);
    let rows = machines.iter().map(|machine| {
        let mut row: Vec<Cell<'_>> = cells(machine, all).map(Cell::from).into();
        row[3] = bar(if all > 0.0 { machine.busy / all } else { 0.0 });
        Row::new(row)
    });
    frame.render_widget(table(rows, &HEAD, " machines "), above);
    let channels = channel_cells(machines);
    let rows = channels
        .into_iter()
        .map(|cells| Row::new(cells.map(Cell::from)));
    frame.render_widget(table(rows, &CHANNEL_HEAD, " channels with work "), below);
    frame.render_widget(Line::from(" q: end").dim(), foot);
}

/// A part as a bar of ten characters, in eighths, with its figure.
fn bar(part: f64) -> Cell<'static> {
    const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let eighths = (part.clamp(0.0, 1.0) * 80.0).round() as usize;
    let bar: String = (0..10)
        .map(|n| EIGHTHS[eighths.saturating_sub(8 * n).min(8)])
        .collect();
    Cell::from(format!("{bar} {}", percent(part))).style(Style::new().fg(Color::Cyan))
}

fn table<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    head: &'a [&'a str],
    title: &'a str,
) -> Table<'a> {
    let widths = head.iter().map(|name| match *name {
        "machine" => Constraint::Length(12),
        "share" => Constraint::Length(18),
        name => Constraint::Length(name.len().max(8) as u16),
    });
    Table::new(rows, widths)
        .header(Row::new(head.to_vec()).bold())
        .column_spacing(2)
        .block(Block::bordered().title(title))
}

fn print(machines: &[MachineRates]) {
    let all = total(machines);
    let rows = machines.iter().map(|machine| cells(machine, all).to_vec());
    print_table(&HEAD, &rows.collect::<Vec<_>>());
    let channels = channel_cells(machines);
    if !channels.is_empty() {
        println!();
        print_table(
            &CHANNEL_HEAD,
            &channels.iter().map(|c| c.to_vec()).collect::<Vec<_>>(),
        );
    }
}

fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            let width = width(column);
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        println!("{text}");
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn screen_shows_machines_with_their_shares_and_channels() {
        let machine = |name: &str, busy| MachineRates {
            name: name.into(),
            busy,
            accesses: 12_345.0,
            channels: vec![rates::ChannelRates {
                number: 7,
                doorbells: 30.0,
                busy,
                wait_ms: 1.5,
            }],
            ..MachineRates::default()
        };
        let machines = [machine("vgpu0", 0.6), machine("vgpu1", 0.2)];
        let mut terminal = Terminal::new(TestBackend::new(110, 14)).unwrap();
        terminal.draw(|frame| draw(frame, &machines)).unwrap();
        let screen = terminal.backend().to_string();
        for expected in ["vgpu0", "12k", "75.0 %", "25.0 %", "1.50"] {
            assert!(
                screen.contains(expected),
                "{expected} is missing in\n{screen}"
            );
        }
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(
            [0.4, 9999.0, 12_345.0, 2e7].map(short),
            ["0", "9999", "12k", "20M"]
        );
    }
}
