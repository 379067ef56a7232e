//! What the host has already.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use e2e::run_tool;

/// Names the archive to use where the host's apt does not know one.
const MIRROR: &str = "GPUVM_DEBIAN_MIRROR";

/// Debian's releases, as their names appear in an archive.
const RELEASES: &[&str] = &[
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The keys that sign Debian's archive.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A QEMU of the host that can be a client of vfio-user, which came with version 10.1.
pub fn qemu() -> Option<PathBuf> {
    let program = find("qemu-system-x86_64")?;
    let devices = run_tool(Command::new(&program).args(["-device", "help"])).ok()?;
    devices.contains("\"vfio-user-pci\"").then_some(program)
}

/// Checks that packages can be fetched and unpacked here.
///
/// # Errors
///
/// Names all that is missing.
pub fn check_package_tools() -> Result<()> {
    let mut missing: Vec<&str> = ["apt-get", "apt-cache", "dpkg-deb"]
        .into_iter()
        .filter(|t| find(t).is_none())
        .collect();
    if !Path::new(KEYRING).exists() {
        missing.push(KEYRING);
    }
    if !missing.is_empty() {
        bail!(
            "This host lacks {}. The guests' kernels come from Debian's archive: run this on \
             Debian 12 or later (a container will do), or install apt, dpkg and \
             debian-archive-keyring and name an archive in ${MIRROR}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// The archive that the host's apt uses for Debian itself.
///
/// # Errors
///
/// When it uses none.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var(MIRROR) {
        return Ok(mirror);
    }
    // What an update would fetch is known even where none was ever done.
    let text = run_tool(Command::new("apt-get").args(["update", "--print-uris"]))?;
    let Some(mirror) = text.lines().find_map(archive) else {
        bail!("The host's apt has no source for Debian: name an archive in ${MIRROR}");
    };
    Ok(mirror.to_owned())
}

/// The archive in a line of `apt-get update --print-uris`, if it serves a Debian release.
fn archive(line: &str) -> Option<&str> {
    let uri = line.strip_prefix('\'')?.split('\'').next()?;
    let (archive, rest) = uri.split_once("/dists/")?;
    let suite = rest.strip_suffix("/InRelease")?;
    RELEASES.contains(&suite).then_some(archive)
}

fn find(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    // Unprivileged users often have no sbin directories in their path.
    env::split_paths(&paths)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_of_debian_names_its_archive() {
        let line = "'http://mirror.example/debian/dists/bookworm/InRelease' file 0 ";
        assert_eq!(archive(line), Some("http://mirror.example/debian"));
    }

    #[test]
    fn updates_security_and_index_files_name_none() {
        for uri in [
            "http://mirror.example/debian/dists/bookworm-updates/InRelease",
            "http://mirror.example/debian-security/dists/bookworm-security/InRelease",
            "http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz",
            "http://mirror.example/ubuntu/dists/noble/InRelease",
        ] {
            assert_eq!(archive(&format!("'{uri}' file 0 ")), None, "{uri}");
        }
    }
}
