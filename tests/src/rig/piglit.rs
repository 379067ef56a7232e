//! Piglit's tests of compute, as Debian 13 packages them.
//!
//! Of its GL tests, those count whose shaders are compute shaders; `shader_runner` takes many of
//! them in one process. Its OpenCL tests all count. A test that passes on the CPU (llvmpipe, PoCL)
//! has to pass on the card, unless it is known what other than the card it fails of:
//!
//! * The same OpenCL driver of Mesa, rusticl, with llvmpipe in the card's place, does not pass it
//!   either: that is tried each time.
//! * Mesa's driver says what it lacks, or the card what it cannot execute: `piglit.txt` has the words,
//!   which are looked for in what the test printed.
//! * Mesa's compiler for the card silently makes a wrong program: `piglit.txt` says where.
//!
//! What does not pass is listed in `failures.txt` beside the logs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;

use super::Rig;

/// Where piglit is in its tree.
const PIGLIT: &str = "usr/lib/x86_64-linux-gnu/piglit";
/// Where its GL tests are from there.
const SPECS: [&str; 2] = ["tests/spec", "generated_tests/spec"];
/// Begins the part of a test that has a compute shader.
const COMPUTE: &str = "\n[compute shader";
/// Tests that one process runs.
const BATCH: usize = 100;
/// How long one batch may take.
const BATCH_LIMIT: Duration = Duration::from_secs(300);
/// How long all OpenCL tests may take.
const OPENCL_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// Every so many tests are in the quick part.
const QUICK: usize = 16;
/// What may fail on the card: names below `[why]` and what they print then.
const EXPLAINED: &str = include_str!("piglit.txt");
/// rusticl has to be asked for doubles.
const DOUBLES: (&str, &str) = ("RUSTICL_FEATURES", "fp64");

/// What became of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// `pass`, `fail`, `skip`, `crash`, `timeout`.
    result: String,
    /// What it printed, as far as that may explain a failure.
    said: String,
}

impl Outcome {
    fn passed(&self) -> bool {
        self.result == "pass"
    }
}

/// Outcomes by test.
type Results = BTreeMap<String, Outcome>;

/// Why tests may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reason {
    why: &'static str,
    /// What they print then.
    says: Option<&'static str>,
}

/// Tests that may fail, each with why: names, which may end with a star.
struct Explanations(Vec<(&'static str, Reason)>);

impl Explanations {
    /// Those of a text: lines that begin with a semicolon are comments; one that begins with `>` has
    /// what the tests below print.
    fn parse(text: &'static str) -> Self {
        let mut reason = Reason {
            why: "",
            says: None,
        };
        let mut list = Vec::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(';')) {
            let heading = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'));
            if let Some(why) = heading {
                reason = Reason { why, says: None };
            } else if let Some(says) = line.strip_prefix("> ") {
                reason.says = Some(says);
            } else {
                list.push((line, reason));
            }
        }
        Self(list)
    }

    /// Why a test may fail, if it may and prints what it should then.
    fn of(&self, test: &str, said: &str) -> Option<Reason> {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(start) => test.starts_with(start),
            None => test == name,
        };
        let (_, reason) = self.0.iter().find(|(name, _)| fits(name))?;
        let says_so = reason.says.is_none_or(|says| said.contains(says));
        says_so.then_some(*reason)
    }
}

/// What a test fails of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// That is not known: it may be the card.
    Unknown,
    /// It does not pass through the same driver on the CPU either.
    Driver,
    /// What it prints says so, and this explanation why.
    Said(&'static str),
    /// This explains it.
    Silent(&'static str),
}

/// A test that passed on the CPU and not on the card.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    test: String,
    result: String,
    cause: Cause,
}

/// How many tests there are, and how many of each kind.
#[derive(Default)]
struct Count {
    /// Run.
    all: usize,
    /// Passed on the CPU.
    expected: usize,
    /// Passed there and on the card.
    passed: usize,
    /// Passed there and not on the card.
    failed: Vec<Failure>,
}

impl Count {
    fn of(card: &Results, cpu: &Results, explanations: &Explanations) -> Self {
        let mut count = Self {
            all: card.len(),
            ..Self::default()
        };
        for (name, outcome) in card {
            if !cpu.get(name).is_some_and(Outcome::passed) {
                continue;
            }
            count.expected += 1;
            if outcome.passed() {
                count.passed += 1;
                continue;
            }
            let cause = match explanations.of(name, &outcome.said) {
                None => Cause::Unknown,
                Some(Reason { why, says: None }) => Cause::Silent(why),
                Some(Reason { why, .. }) => Cause::Said(why),
            };
            count.failed.push(Failure {
                test: name.clone(),
                result: outcome.result.clone(),
                cause,
            });
        }
        count
    }

    /// What failed does so of the driver where that fails without the card, unless it has said what of.
    fn ask(&mut self, witness: &Results) {
        for failure in &mut self.failed {
            let said = matches!(failure.cause, Cause::Said(_));
            if !said && witness.get(&failure.test).is_some_and(|w| !w.passed()) {
                failure.cause = Cause::Driver;
            }
        }
    }

    fn caused(&self, by: impl Fn(Cause) -> bool) -> usize {
        self.failed.iter().filter(|f| by(f.cause)).count()
    }

    /// The counts in a few words.
    ///
    /// # Errors
    ///
    /// Nothing passes on the CPU, or something fails on the card that is not explained.
    fn judge(&self, what: &str) -> Result<String> {
        let share = |of: usize| 100.0 * self.passed as f64 / of.max(1) as f64;
        let driver = self.caused(|cause| cause == Cause::Driver);
        let silent = self.caused(|cause| matches!(cause, Cause::Silent(_)));
        let spoken = self.caused(|cause| matches!(cause, Cause::Said(_)));
        let theirs = driver + silent + spoken;
        let text = format!(
            "{what}: {} tests, {} pass on the CPU, {} of those on the card ({:.1} %). {theirs} fail of \
             what is not the card's: {driver} do not pass with Mesa's driver on the CPU either, {spoken} \
             say what they lack, {silent} are known to be compiled wrongly. Without them {:.1} %",
            self.all,
            self.expected,
            self.passed,
            share(self.expected),
            share(self.expected - theirs),
        );
        let new = self.failed.iter().filter(|f| f.cause == Cause::Unknown);
        let new: Vec<&str> = new.map(|failure| failure.test.as_str()).collect();
        ensure!(self.expected > 0, "{text}");
        ensure!(new.is_empty(), "{text}; these are new: {}", new.join(", "));
        Ok(text)
    }
}

/// Some of the GL tests.
pub fn quick(rig: &Rig<'_>) -> Result<String> {
    let tests = shader_tests(rig)?.into_iter().step_by(QUICK).collect();
    let count = gl(rig, tests)?;
    list(rig, &[&count])?;
    count.judge("GL")
}

/// All tests.
pub fn all(rig: &Rig<'_>) -> Result<String> {
    let gl = gl(rig, shader_tests(rig)?)?;
    let opencl = opencl(rig)?;
    list(rig, &[&gl, &opencl])?;
    let [gl, opencl] = [gl.judge("GL"), opencl.judge("OpenCL")];
    Ok(format!("{}; {}", gl?, opencl?))
}

/// Writes what failed, and why if that is known.
fn list(rig: &Rig<'_>, counts: &[&Count]) -> Result<()> {
    let mut text = String::new();
    for failure in counts.iter().flat_map(|count| &count.failed) {
        let why = match failure.cause {
            Cause::Unknown => "not explained",
            Cause::Driver => "likewise with Mesa's driver on the CPU",
            Cause::Said(why) | Cause::Silent(why) => why,
        };
        writeln!(text, "{:8} {} ({why})", failure.result, failure.test)?;
    }
    fs::write(rig.artefacts.join("failures.txt"), text)?;
    Ok(())
}

fn piglit<'a>(rig: &'a Rig<'_>) -> Result<&'a Path> {
    rig.piglit.as_deref().context("There is no piglit")
}

/// The tests with compute shaders, by their path from piglit's directory.
fn shader_tests(rig: &Rig<'_>) -> Result<Vec<PathBuf>> {
    let base = piglit(rig)?.join(PIGLIT);
    let mut tests = Vec::new();
    let mut directories: Vec<PathBuf> = SPECS.iter().map(|spec| base.join(spec)).collect();
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("Cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "shader_test") {
                let text = fs::read(&path)?;
                if String::from_utf8_lossy(&text).contains(COMPUTE) {
                    tests.push(path.strip_prefix(&base)?.to_owned());
                }
            }
        }
    }
    tests.sort();
    ensure!(!tests.is_empty(), "Piglit has no compute shaders");
    Ok(tests)
}

/// The GL tests, on the card and, at the same time, on llvmpipe.
fn gl(rig: &Rig<'_>, tests: Vec<PathBuf>) -> Result<Count> {
    let (card, cpu) = thread::scope(|scope| {
        let cpu = [("LIBGL_ALWAYS_SOFTWARE", "1")];
        let tests = &tests;
        let cpu = scope.spawn(move || shaders(rig, "llvmpipe", tests, &cpu));
        let card = shaders(rig, "gl", tests, &[]);
        (card, cpu.join())
    });
    let cpu = cpu.map_err(|_| anyhow!("The tests on llvmpipe panicked"))?;
    Ok(Count::of(&card?, &cpu?, &Explanations::parse(EXPLAINED)))
}

/// Runs GL tests. One that ends its process costs no other one its result.
fn shaders(
    rig: &Rig<'_>,
    log: &str,
    tests: &[PathBuf],
    environment: &[(&str, &str)],
) -> Result<Results> {
    let layer = piglit(rig)?;
    let base = Path::new("/").join(PIGLIT);
    let mut results = Results::new();
    let mut done = 0;
    let mut batches = 0;
    while done < tests.len() {
        let batch = &tests[done..tests.len().min(done + BATCH)];
        let mut command = rig.exec(&[layer]);
        command
            .arg("--")
            .arg(base.join("bin/shader_runner"))
            .args(batch.iter().map(|test| base.join(test)))
            .args(["-auto", "-fbo", "-report-subtests"])
            .env("PIGLIT_PLATFORM", "surfaceless_egl")
            .envs(environment.iter().copied());
        let output = rig.output(&mut command, &format!("{log}-{batches}"), BATCH_LIMIT)?;
        batches += 1;
        let found = subtests(&output);
        // The first one ended the process before it said anything if there is none at all.
        let found = match found.is_empty() {
            true => vec![crash()],
            false => found,
        };
        done += found.len();
        for (test, outcome) in batch.iter().zip(found) {
            let name = test.with_extension("").display().to_string();
            results.insert(name, outcome);
        }
    }
    Ok(results)
}

/// A test that ended its process, until there is better news of it.
fn crash() -> Outcome {
    Outcome {
        result: "crash".into(),
        said: String::new(),
    }
}

/// What `shader_runner` says of each test that it began, in order.
fn subtests(output: &str) -> Vec<Outcome> {
    #[derive(Deserialize)]
    struct Line {
        subtest: BTreeMap<String, String>,
    }
    let mut results: Vec<Outcome> = Vec::new();
    let mut last = None;
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix("PIGLIT TEST: ") {
            // Each is announced twice: to either stream.
            let number = rest.split(' ').next().map(str::to_owned);
            if number != last {
                last = number;
                results.push(crash());
            }
            continue;
        }
        let Some(outcome) = results.last_mut() else {
            continue;
        };
        let json = line.strip_prefix("PIGLIT: ");
        match json.and_then(|json| serde_json::from_str::<Line>(json).ok()) {
            Some(line) => {
                if let Some(result) = line.subtest.into_values().next() {
                    outcome.result = result;
                }
            }
            None => {
                outcome.said.push_str(line);
                outcome.said.push('\n');
            }
        }
    }
    results
}

/// The OpenCL tests, on the card and on PoCL. What passes on PoCL only is tried with the card's driver
/// on the CPU.
fn opencl(rig: &Rig<'_>) -> Result<Count> {
    let layer = piglit(rig)?;
    let pocl = rig.testbed.pocl();
    let card = programs(rig, "opencl", &[layer], &[DOUBLES], None)?;
    // Without a driver of its own choice, rusticl has no device.
    let nothing = [("RUSTICL_ENABLE", "")];
    let cpu = programs(rig, "pocl", &[layer, &pocl], &nothing, None)?;
    let mut count = Count::of(&card, &cpu, &Explanations::parse(EXPLAINED));
    if !count.failed.is_empty() {
        let failed: Vec<&str> = count.failed.iter().map(|f| f.test.as_str()).collect();
        let llvmpipe = [("RUSTICL_ENABLE", "llvmpipe"), DOUBLES];
        let log = "rusticl-on-llvmpipe";
        count.ask(&programs(rig, log, &[layer], &llvmpipe, Some(&failed))?);
    }
    Ok(count)
}

/// Runs OpenCL tests: those of these names, or all.
fn programs(
    rig: &Rig<'_>,
    log: &str,
    layers: &[&Path],
    environment: &[(&str, &str)],
    names: Option<&[&str]>,
) -> Result<Results> {
    #[derive(Deserialize)]
    struct Tests {
        tests: BTreeMap<String, Test>,
    }
    #[derive(Deserialize)]
    struct Test {
        result: String,
        err: String,
    }
    let directory = rig.artefacts.join(log);
    let mut command = rig.exec(layers);
    command
        .args(["--", "piglit", "run", "cl", "--overwrite"])
        .args(["--jobs", "2", "--timeout", "120", "--log-level", "quiet"]);
    if let Some(names) = names {
        let list = directory.with_extension("txt");
        fs::write(&list, names.join("\n"))?;
        command.arg("--test-list").arg(list);
    }
    command
        .arg(&directory)
        .env("PIGLIT_NO_FAST_SKIP", "1")
        .env("PIGLIT_COMPRESSION", "none")
        .envs(environment.iter().copied());
    rig.output(&mut command, log, OPENCL_LIMIT)?;
    let path = directory.join("results.json");
    let text = fs::read(&path).with_context(|| format!("There is no {}", path.display()))?;
    let tests: Tests = serde_json::from_slice(&text)
        .with_context(|| format!("Cannot make sense of {}", path.display()))?;
    let outcome = |Test { result, err: said }| Outcome { result, said };
    let results = tests.tests.into_iter();
    Ok(results.map(|(name, test)| (name, outcome(test))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(list: &[(&str, &str, &str)]) -> Results {
        let outcome = |result: &str, said: &str| Outcome {
            result: result.into(),
            said: said.into(),
        };
        list.iter()
            .map(|(name, result, said)| (name.to_string(), outcome(result, said)))
            .collect()
    }

    #[test]
    fn a_test_that_was_begun_and_not_ended_has_crashed() {
        let output = "PIGLIT TEST: 1 - one\nPIGLIT TEST: 1 - one\nnoise\n\
                      PIGLIT: {\"subtest\": {\"one\" : \"pass\"}}\n\
                      PIGLIT TEST: 2 - two\nPIGLIT TEST: 2 - two\nSegmentation fault";
        let outcomes = subtests(output);
        let found: Vec<_> = outcomes
            .iter()
            .map(|outcome| (outcome.result.as_str(), outcome.said.as_str()))
            .collect();
        assert_eq!(
            found,
            [("pass", "noise\n"), ("crash", "Segmentation fault\n")]
        );
    }

    #[test]
    fn what_fails_on_the_cpu_does_not_count() {
        let card = results(&[("a", "pass", ""), ("b", "fail", ""), ("c", "fail", "")]);
        let cpu = results(&[("a", "pass", ""), ("b", "pass", ""), ("c", "fail", "")]);
        let count = Count::of(&card, &cpu, &Explanations::parse("[known]\nc\n"));
        assert_eq!((count.all, count.expected, count.passed), (3, 2, 1));
        let error = count.judge("").unwrap_err().to_string();
        assert!(error.ends_with("these are new: b"), "{error}");
        let count = Count::of(&card, &cpu, &Explanations::parse("[known]\nb\n"));
        assert!(count.judge("").is_ok());
    }

    #[test]
    fn a_failure_is_explained_by_a_driver_that_fails_without_the_card() {
        let card = results(&[("a", "fail", ""), ("b", "fail", "")]);
        let cpu = results(&[("a", "pass", ""), ("b", "pass", "")]);
        let mut count = Count::of(&card, &cpu, &Explanations::parse(""));
        count.ask(&results(&[("a", "pass", ""), ("b", "skip", "")]));
        let causes: Vec<Cause> = count.failed.iter().map(|failure| failure.cause).collect();
        assert_eq!(causes, [Cause::Unknown, Cause::Driver]);
    }

    #[test]
    fn an_explanation_counts_if_the_test_says_what_it_should() {
        let card = results(&[("a", "crash", "no room left"), ("b", "crash", "")]);
        let cpu = results(&[("a", "pass", ""), ("b", "pass", "")]);
        let explanations = Explanations::parse("[compiler]\n> no room\na\nb\n");
        let count = Count::of(&card, &cpu, &explanations);
        let causes: Vec<Cause> = count.failed.iter().map(|failure| failure.cause).collect();
        assert_eq!(causes, [Cause::Said("compiler"), Cause::Unknown]);
    }

    #[test]
    fn names_below_a_heading_are_explained_by_it_and_a_star_is_any_end() {
        let explanations = Explanations::parse("; names\n\n[one]\n> it\na\nb*\n\n[two]\nc\n");
        let why = ["a", "ab", "b", "bc", "c"].map(|test| {
            let reason = explanations.of(test, "it");
            reason.map(|reason| (reason.why, reason.says))
        });
        let [one, two] = [Some(("one", Some("it"))), Some(("two", None))];
        assert_eq!(why, [one, None, one, one, two]);
    }

    #[test]
    fn every_name_in_the_list_has_a_reason_and_is_there_once() {
        let Explanations(list) = Explanations::parse(EXPLAINED);
        assert!(list.iter().all(|(_, reason)| !reason.why.is_empty()));
        let mut names: Vec<_> = list.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
