//! Names of namespaces: one path segment, so that nothing outside the directory can be meant.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where names live, as for `ip netns`.
pub const DIRECTORY: &str = "/run/netns";

/// The longest name a file system takes.
const LONGEST: usize = 255;

/// A name that was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The file the namespace is mounted on.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.0)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    /// In quotes, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "" => Err("a namespace name is not empty".into()),
            "." | ".." => Err("it is a directory, not a name".into()),
            _ if name.len() > LONGEST => Err(format!(
                "it has {} bytes; a namespace name has at most {LONGEST}",
                name.len()
            )),
            _ if name.contains('/') => Err(format!(
                "a namespace name has no '/': it is one file in {DIRECTORY}"
            )),
            _ if name.contains(|c: char| c.is_control()) => {
                Err("it has a control character".into())
            }
            _ if name.starts_with("pid:") => {
                Err("names do not begin with pid:, which means a process in a TARGET".into())
            }
            _ => Ok(Self(name.into())),
        }
    }
}

/// `pid:N`.
pub fn process(text: &str) -> Result<u32, String> {
    match text.strip_prefix("pid:").map(str::parse::<u32>) {
        Some(Ok(pid @ 1..)) => Ok(pid),
        _ => Err("a process is written pid:N, N its process id".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_or_mean_something_else_are_refused() {
        let long = "a".repeat(256);
        for bad in [
            "", ".", "..", "../x", "/x", "a/b", "a/", "a\nb", "a\0b", "pid:1", &long,
        ] {
            let e = bad.parse::<Name>().unwrap_err();
            assert!(!e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn names_ip_netns_takes_are_taken() {
        for good in [
            "a",
            "box-1",
            "a.b",
            "...",
            "cni-0a1b",
            "with space",
            "ä",
            &"a".repeat(255),
        ] {
            let name: Name = good.parse().unwrap();
            assert_eq!(name.path(), Path::new("/run/netns").join(good));
        }
    }

    #[test]
    fn a_process_is_pid_n() {
        assert_eq!(process("pid:42"), Ok(42));
        for bad in ["42", "pid:", "pid:0", "pid:x", "pid:-1", "pid:99999999999"] {
            assert!(process(bad).is_err(), "{bad}");
        }
    }
}
