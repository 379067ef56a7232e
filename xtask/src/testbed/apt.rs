//! apt with a root of its own: the host's lists, cache and package state are not touched.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::host;
use e2e::run_tool;

/// Attempts per file before apt gives up on it.
const RETRIES: u32 = 3;

/// A private apt for one release.
pub struct Apt {
    configuration: PathBuf,
    /// dpkg's list of the packages that need not be fetched.
    installed: Option<PathBuf>,
}

impl Apt {
    /// Sets up `root` for `suites` of the archive that the host uses.
    ///
    /// # Errors
    ///
    /// When the host's apt knows no archive, or `root` cannot be written.
    pub fn new(root: &Path, suites: &[&str]) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n",
            host::mirror()?,
            suites.join(" "),
            host::KEYRING
        );
        fs::write(root.join("archive.sources"), sources)?;
        // Nothing is installed, unless a layer's base is.
        fs::write(root.join("status"), "")?;
        let root = root.display();
        let configuration = format!(
            "Dir::State \"{root}\";\n\
             Dir::State::lists \"{root}/lists\";\n\
             Dir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             Dir::Etc::sourcelist \"{root}/archive.sources\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"{RETRIES}\";\n"
        );
        let path = PathBuf::from(format!("{root}/apt.conf"));
        fs::write(&path, configuration)?;
        Ok(Self {
            configuration: path,
            installed: None,
        })
    }

    /// Takes the packages in `status`, which is dpkg's list of a tree, for installed.
    pub fn assume_installed(&mut self, status: &Path) {
        self.installed = Some(status.to_owned());
    }

    /// Fetches the package lists.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn update(&self, bar: &ProgressBar) -> Result<()> {
        self.fetch(
            self.command("apt-get").args(["update", "--error-on=any"]),
            bar,
        )
    }

    /// Downloads `packages` and everything they depend on into `directory`; the files.
    ///
    /// # Errors
    ///
    /// When one cannot be found or fetched.
    pub fn download_closure(
        &self,
        packages: &[&str],
        prefer: Option<&str>,
        directory: &Path,
        bar: &ProgressBar,
    ) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(directory.join("partial"))?;
        let mut command = self.command("apt-get");
        command.args(["install", "--download-only", "--assume-yes"]);
        command
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", directory.display()));
        if let Some(status) = &self.installed {
            command
                .arg("-o")
                .arg(format!("Dir::State::status={}", status.display()));
        }
        if let Some(suite) = prefer {
            command.args(["--target-release", suite]);
        }
        self.fetch(command.args(packages), bar)?;
        packages_in(directory)
    }

    /// Downloads `package` alone into `directory`; the file.
    ///
    /// # Errors
    ///
    /// When it cannot be found or fetched.
    pub fn download(
        &self,
        package: &str,
        directory: &Path,
        bar: &ProgressBar,
    ) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(directory)?;
        let mut command = self.command("apt-get");
        self.fetch(
            command.args(["download", package]).current_dir(directory),
            bar,
        )?;
        packages_in(directory)
    }

    /// The one package that `package` depends on.
    ///
    /// # Errors
    ///
    /// When there is not exactly one.
    pub fn dependency(&self, package: &str) -> Result<String> {
        let text = run_tool(self.command("apt-cache").args(["depends", package]))?;
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .collect();
        match names[..] {
            [name] => Ok(name.to_owned()),
            _ => bail!(
                "{package} depends on {} packages where one was expected",
                names.len()
            ),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C");
        command
    }

    /// Runs a command that downloads, showing how far it is.
    fn fetch(&self, command: &mut Command, bar: &ProgressBar) -> Result<()> {
        bar.set_position(0);
        let mut child = command
            .args(["-o", "APT::Status-Fd=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("Cannot start apt-get")?;
        let stderr = child
            .stderr
            .take()
            .context("apt-get has no standard error")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(stderr).read_to_string(&mut text);
            text
        });
        let stdout = child
            .stdout
            .take()
            .context("apt-get has no standard output")?;
        for line in BufReader::new(stdout).lines() {
            if let Some(percent) = percent(&line?) {
                bar.set_position(percent);
            }
        }
        let status = child.wait()?;
        let errors = errors.join().unwrap_or_default();
        if !status.success() {
            let lines: Vec<&str> = errors
                .lines()
                .filter(|line| line.starts_with("E: "))
                .map(|l| &l[3..])
                .collect();
            bail!(
                "The download failed; run this again to go on where it stopped. apt says: {}",
                lines.join("; ")
            );
        }
        Ok(())
    }
}

/// The progress in a line of apt's status stream, `dlstatus:FILE:PERCENT:TEXT`.
fn percent(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    Some(percent.parse::<f64>().ok()? as u64)
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_line_gives_whole_percents_and_other_lines_none() {
        assert_eq!(
            percent("dlstatus:3:42.857:Retrieving file 3 of 7"),
            Some(42)
        );
        assert_eq!(percent("pmstatus:dpkg-exec:0:Running dpkg"), None);
        assert_eq!(
            percent("Get:1 http://mirror.example/debian bookworm InRelease"),
            None
        );
    }
}
