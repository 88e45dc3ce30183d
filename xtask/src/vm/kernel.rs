//! Debian's cloud kernels: which apt knows, and getting one without installing it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{exec, progress, setup, workspace};

/// The oldest series that netd supports.
pub const OLDEST_SERIES: [u64; 2] = [6, 1];

const PREFIX: &str = "linux-image-";
const SUFFIX: &str = "-cloud-amd64";

/// A kernel package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says in it.
    pub version: String,
}

impl Kernel {
    fn from_package(package: &str) -> Option<Self> {
        let version = package.strip_prefix(PREFIX)?;
        // `linux-image-6.12-cloud-amd64` is an empty package that depends on the newest 6.12.
        let number = version.strip_suffix(SUFFIX)?;
        (numbers(number).len() > 2).then(|| Self {
            version: version.to_owned(),
        })
    }

    fn package(&self) -> String {
        format!("{PREFIX}{}", self.version)
    }

    fn numbers(&self) -> Vec<u64> {
        numbers(self.version.strip_suffix(SUFFIX).unwrap_or(&self.version))
    }

    /// Whether the kernel is of the oldest series that netd supports.
    pub fn is_oldest(&self) -> bool {
        self.numbers().starts_with(&OLDEST_SERIES)
    }

    /// Whether the kernel is at least `major.minor`.
    pub fn at_least(&self, major: u64, minor: u64) -> bool {
        self.numbers().as_slice() >= [major, minor].as_slice()
    }

    /// The directory with this kernel's package unpacked; downloads it where it is not there yet.
    pub fn unpacked(&self) -> Result<Tree> {
        let kernels = workspace::target().join("vm/kernels");
        let dir = kernels.join(&self.version);
        if !dir.is_dir() {
            fs::create_dir_all(&kernels)
                .with_context(|| format!("cannot make {}", kernels.display()))?;
            self.download(&kernels, &dir)?;
        }
        Ok(Tree {
            dir,
            version: self.version.clone(),
        })
    }

    fn download(&self, kernels: &Path, dir: &Path) -> Result<()> {
        let package = self.package();
        // Unsandboxed: apt's own user may not read the checkout.
        let fetch = || {
            let mut apt = exec::command("apt-get");
            apt.current_dir(kernels).args([
                "-q",
                "-o",
                "APT::Sandbox::User=root",
                "download",
                &package,
            ]);
            progress::step(&format!("downloading {package}"), &mut apt)
        };
        fetch()
            .or_else(|_| {
                // Old lists name files that the mirror no longer has.
                setup::update_package_lists()?;
                fetch()
            })
            .with_context(|| {
                format!(
                    "cannot download {package}; try `apt-get update && apt-get download {package}`"
                )
            })?;
        let prefix = format!("{package}_");
        let deb = fs::read_dir(kernels)
            .with_context(|| format!("cannot list {}", kernels.display()))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            })
            .with_context(|| format!("apt-get download left no {package}"))?;
        // Unpacked beside its place and renamed: an interrupted run leaves nothing that looks whole.
        let fresh = kernels.join(format!("{}.new", self.version));
        let _ = fs::remove_dir_all(&fresh);
        exec::capture(exec::command("dpkg-deb").arg("-x").args([&deb, &fresh]))?;
        fs::rename(&fresh, dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
    }
}

/// An unpacked kernel package.
pub struct Tree {
    dir: PathBuf,
    version: String,
}

impl Tree {
    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.dir
            .join("boot")
            .join(format!("vmlinuz-{}", self.version))
    }

    /// The directory of its modules.
    pub fn modules(&self) -> PathBuf {
        self.dir
            .join("lib/modules")
            .join(&self.version)
            .join("kernel")
    }
}

/// Every cloud kernel that apt knows.
pub fn available() -> Result<Vec<Kernel>> {
    let mut kernels = search()?;
    if kernels.is_empty() {
        setup::update_package_lists()?;
        kernels = search()?;
    }
    if kernels.is_empty() {
        bail!(
            "apt knows no package like {PREFIX}6.1.0-*{SUFFIX}: add Debian 12's sources and run `apt-get update`"
        );
    }
    Ok(kernels)
}

fn search() -> Result<Vec<Kernel>> {
    let pattern = format!("^{PREFIX}[0-9].*{SUFFIX}$");
    let said =
        exec::capture(exec::command("apt-cache").args(["search", "--names-only", &pattern]))?;
    Ok(said
        .lines()
        .filter_map(|line| Kernel::from_package(line.split(' ').next()?))
        .collect())
}

/// The newest kernel of all.
pub fn newest(kernels: &[Kernel]) -> Result<Kernel> {
    let newest = kernels.iter().max_by_key(|kernel| kernel.numbers());
    newest.cloned().context("apt knows no cloud kernel")
}

/// The newest kernel of one series.
pub fn newest_of_series(kernels: &[Kernel], series: [u64; 2]) -> Result<Kernel> {
    let of_series = kernels
        .iter()
        .filter(|kernel| kernel.numbers().starts_with(&series));
    of_series.max_by_key(|kernel| kernel.numbers()).cloned().with_context(|| {
        format!("apt knows no {PREFIX}{}.{}.*{SUFFIX}: add Debian 12's sources and run `apt-get update`", series[0], series[1])
    })
}

/// `6.12.117+deb12` is 6, 12, 117, 12.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels() -> Vec<Kernel> {
        [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
        ]
        .iter()
        .filter_map(|package| Kernel::from_package(package))
        .collect()
    }

    #[test]
    fn packages_without_a_kernel_in_them_are_left_out() {
        assert_eq!(kernels().len(), 4);
    }

    #[test]
    fn the_newest_is_found_by_number_not_by_text() {
        assert_eq!(
            newest(&kernels()).unwrap().version,
            "6.12.117+deb12-cloud-amd64"
        );
        let oldest = newest_of_series(&kernels(), OLDEST_SERIES).unwrap();
        assert_eq!(oldest.version, "6.1.0-56-cloud-amd64");
        assert_eq!(oldest.package(), "linux-image-6.1.0-56-cloud-amd64");
    }

    #[test]
    fn a_missing_series_is_named() {
        let error = newest_of_series(&kernels(), [5, 10]).unwrap_err();
        assert!(error.to_string().contains("linux-image-5.10."), "{error}");
    }

    #[test]
    fn features_are_decided_by_kernel_version() {
        let all = kernels();
        assert!(
            !newest_of_series(&all, OLDEST_SERIES)
                .unwrap()
                .at_least(6, 6)
        );
        assert!(newest(&all).unwrap().at_least(6, 6));
    }
}
