//! Piglit's tests of compute, as Debian 13 packages them.
//!
//! Of its GL tests, those count whose shaders are compute shaders; `shader_runner` takes many of
//! them in one process. Its OpenCL tests all count. A test that passes on the CPU (llvmpipe, PoCL)
//! has to pass on the card, unless `piglit.txt` says what other than the card it fails of. What
//! does not pass is listed in `failures.txt` beside the logs.

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
/// What may fail on the card: names below `[why]`.
const EXPLAINED: &str = include_str!("piglit.txt");

/// Results by test: `pass`, `fail`, `skip`, `crash`, `timeout`.
type Results = BTreeMap<String, String>;

/// Tests that may fail, each with why: names, which may end with a star.
struct Explanations(Vec<(&'static str, &'static str)>);

impl Explanations {
    /// Those of a text: lines that begin with a semicolon are comments.
    fn parse(text: &'static str) -> Self {
        let mut why = "";
        let mut list = Vec::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(';')) {
            match line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                Some(heading) => why = heading,
                None => list.push((line, why)),
            }
        }
        Self(list)
    }

    /// Why a test may fail, if it may.
    fn of(&self, test: &str) -> Option<&'static str> {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(start) => test.starts_with(start),
            None => test == name,
        };
        let found = self.0.iter().find(|(name, _)| fits(name));
        found.map(|(_, why)| *why)
    }
}

/// A test that passed on the CPU and not on the card.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    test: String,
    result: String,
    why: Option<&'static str>,
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
        for (name, result) in card {
            if cpu.get(name).is_none_or(|result| result != "pass") {
                continue;
            }
            count.expected += 1;
            if result == "pass" {
                count.passed += 1;
            } else {
                count.failed.push(Failure {
                    test: name.clone(),
                    result: result.clone(),
                    why: explanations.of(name),
                });
            }
        }
        count
    }

    /// The counts in a few words.
    ///
    /// # Errors
    ///
    /// Nothing passes on the CPU, or something fails on the card that is not explained.
    fn judge(&self, what: &str) -> Result<String> {
        let new: Vec<&str> = self
            .failed
            .iter()
            .filter(|failure| failure.why.is_none())
            .map(|failure| failure.test.as_str())
            .collect();
        let text = format!(
            "{what}: {} tests, {} pass on the CPU, {} of those on the card, {} fail of what is not \
             the card's",
            self.all,
            self.expected,
            self.passed,
            self.failed.len() - new.len()
        );
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
    for Failure { test, result, why } in counts.iter().flat_map(|count| &count.failed) {
        writeln!(
            text,
            "{result:8} {test} ({})",
            why.unwrap_or("not explained")
        )?;
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
        for (test, result) in batch.iter().zip(&found) {
            let name = test.with_extension("").display().to_string();
            results.insert(name, result.clone().unwrap_or_else(|| "crash".into()));
        }
        // The first one ended the process before it said anything if there is none at all.
        done += found.len().max(1);
        if found.is_empty() {
            let name = batch[0].with_extension("").display().to_string();
            results.insert(name, "crash".into());
        }
    }
    Ok(results)
}

/// What `shader_runner` says of each test that it began, in order.
fn subtests(output: &str) -> Vec<Option<String>> {
    #[derive(Deserialize)]
    struct Line {
        subtest: BTreeMap<String, String>,
    }
    let mut results = Vec::new();
    let mut last = None;
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix("PIGLIT TEST: ") {
            // Each is announced twice: to either stream.
            let number = rest.split(' ').next().map(str::to_owned);
            if number != last {
                last = number;
                results.push(None);
            }
        } else if let Some(json) = line.strip_prefix("PIGLIT: ")
            && let Ok(line) = serde_json::from_str::<Line>(json)
            && let Some(result) = results.last_mut()
        {
            *result = line.subtest.into_values().next();
        }
    }
    results
}

/// The OpenCL tests, on the card and on PoCL.
fn opencl(rig: &Rig<'_>) -> Result<Count> {
    let layer = piglit(rig)?;
    let pocl = rig.testbed.pocl();
    // rusticl has to be asked for doubles.
    let card = programs(rig, "opencl", &[layer], &[("RUSTICL_FEATURES", "fp64")])?;
    // Without a driver of its own choice, rusticl has no device.
    let cpu = programs(rig, "pocl", &[layer, &pocl], &[("RUSTICL_ENABLE", "")])?;
    Ok(Count::of(&card, &cpu, &Explanations::parse(EXPLAINED)))
}

fn programs(
    rig: &Rig<'_>,
    log: &str,
    layers: &[&Path],
    environment: &[(&str, &str)],
) -> Result<Results> {
    #[derive(Deserialize)]
    struct Tests {
        tests: BTreeMap<String, Test>,
    }
    #[derive(Deserialize)]
    struct Test {
        result: String,
    }
    let directory = rig.artefacts.join(log);
    let mut command = rig.exec(layers);
    command
        .args(["--", "piglit", "run", "cl", "--overwrite"])
        .args(["--jobs", "2", "--timeout", "120", "--log-level", "quiet"])
        .arg(&directory)
        .env("PIGLIT_NO_FAST_SKIP", "1")
        .env("PIGLIT_COMPRESSION", "none")
        .envs(environment.iter().copied());
    rig.output(&mut command, log, OPENCL_LIMIT)?;
    let path = directory.join("results.json");
    let text = fs::read(&path).with_context(|| format!("There is no {}", path.display()))?;
    let tests: Tests = serde_json::from_slice(&text)
        .with_context(|| format!("Cannot make sense of {}", path.display()))?;
    let results = tests.tests.into_iter();
    Ok(results.map(|(name, test)| (name, test.result)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_was_begun_and_not_ended_has_no_result() {
        let output = "PIGLIT TEST: 1 - one\nPIGLIT TEST: 1 - one\nnoise\n\
                      PIGLIT: {\"subtest\": {\"one\" : \"pass\"}}\n\
                      PIGLIT TEST: 2 - two\nPIGLIT TEST: 2 - two\nSegmentation fault";
        assert_eq!(subtests(output), [Some("pass".into()), None]);
    }

    #[test]
    fn what_fails_on_the_cpu_does_not_count() {
        let results = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(name, result)| (name.to_string(), result.to_string()))
                .collect::<Results>()
        };
        let card = results(&[("a", "pass"), ("b", "fail"), ("c", "fail")]);
        let cpu = results(&[("a", "pass"), ("b", "pass"), ("c", "fail")]);
        let count = Count::of(&card, &cpu, &Explanations::parse("[known]\nc\n"));
        assert_eq!((count.all, count.expected, count.passed), (3, 2, 1));
        let error = count.judge("").unwrap_err().to_string();
        assert!(error.ends_with("these are new: b"), "{error}");
        let count = Count::of(&card, &cpu, &Explanations::parse("[known]\nb\n"));
        assert!(count.judge("").is_ok());
    }

    #[test]
    fn names_below_a_heading_are_explained_by_it_and_a_star_is_any_end() {
        let explanations = Explanations::parse("; names\n\n[one]\na\nb*\n\n[two]\nc\n");
        let why = ["a", "ab", "b", "bc", "c"].map(|test| explanations.of(test));
        let [one, two] = [Some("one"), Some("two")];
        assert_eq!(why, [one, None, one, one, two]);
    }

    #[test]
    fn every_name_in_the_list_has_a_reason_and_is_there_once() {
        let Explanations(list) = Explanations::parse(EXPLAINED);
        assert!(list.iter().all(|(_, why)| !why.is_empty()));
        let mut names: Vec<_> = list.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
