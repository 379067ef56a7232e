//! Piglit's tests of compute, as Debian 13 packages them.
//!
//! Of its GL tests, those count whose shaders are compute shaders; `shader_runner` takes many of
//! them in one process. Its OpenCL tests all count. A test that passes on the CPU (llvmpipe, PoCL)
//! has to pass on the card; what does not is listed in `failures.txt` beside the logs, and what is
//! known and not the card's is in [`EXPLAINED`].

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
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
/// Of the tests that pass on the CPU, so many in a hundred have to pass.
const GOAL: usize = 98;

/// Tests that fail for a reason that is not the card's: a part of the name, and the reason.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "arb_gpu_shader_int64/execution/built-in-functions/cs-op-div-",
        NO_ROOM,
    ),
    (
        "arb_gpu_shader_int64/execution/built-in-functions/cs-op-mod-",
        NO_ROOM,
    ),
    ("spec/glsl-4.50/", NOT_OFFERED),
    ("spec/intel_shader_atomic_float_minmax/", NOT_OFFERED),
];
const NO_ROOM: &str = "(Mesa's register allocator finds no room)";
const NOT_OFFERED: &str = "(Mesa does not offer this on the card)";

/// Results by test: `pass`, `fail`, `skip`, `crash`, `timeout`.
type Results = BTreeMap<String, String>;

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
    failed: Vec<String>,
}

impl Count {
    fn of(card: &Results, cpu: &Results) -> Self {
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
                count.failed.push(format!("{result:8} {name}"));
            }
        }
        count
    }

    /// The counts in a few words, if there are enough.
    fn judge(&self, what: &str) -> Result<String> {
        let text = format!(
            "{what}: {} tests, {} pass on the CPU, {} of those on the card",
            self.all, self.expected, self.passed
        );
        ensure!(self.expected > 0, "{text}");
        ensure!(self.passed * 100 >= self.expected * GOAL, "{text}");
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
    Ok(format!("{}; {}", gl.judge("GL")?, opencl.judge("OpenCL")?))
}

/// Writes what failed, and why if that is known.
fn list(rig: &Rig<'_>, counts: &[&Count]) -> Result<()> {
    let mut text = String::new();
    for failure in counts.iter().flat_map(|count| &count.failed) {
        let reason = EXPLAINED.iter().find(|(part, _)| failure.contains(part));
        let reason = reason.map_or("", |(_, reason)| reason);
        writeln!(text, "{failure} {reason}")?;
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

/// The GL tests, on the card and on llvmpipe.
fn gl(rig: &Rig<'_>, tests: Vec<PathBuf>) -> Result<Count> {
    let card = shaders(rig, "gl", &tests, &[])?;
    let cpu = shaders(rig, "llvmpipe", &tests, &[("LIBGL_ALWAYS_SOFTWARE", "1")])?;
    Ok(Count::of(&card, &cpu))
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
    let card = programs(rig, "opencl", &[layer], &[])?;
    // Without a driver of its own choice, rusticl has no device.
    let cpu = programs(rig, "pocl", &[layer, &pocl], &[("RUSTICL_ENABLE", "")])?;
    Ok(Count::of(&card, &cpu))
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
        .args(["--jobs", "2", "--timeout", "300", "--log-level", "quiet"])
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
        let count = Count::of(&card, &cpu);
        assert_eq!((count.all, count.expected, count.passed), (3, 2, 1));
        assert!(count.judge("").is_err());
    }
}
