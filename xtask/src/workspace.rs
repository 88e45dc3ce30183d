//! Where things are: the workspace, its target directory, programs on the search path.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    // Cargo sets the variable when it runs xtask; a binary started by hand knows where it was built.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A release binary of this workspace.
pub fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Cargo's directory of this user; programs that it installs go into its `bin`.
pub fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// Where the set-up puts a bpf-linker of its own, when the user has one of another version.
pub fn own_linker() -> PathBuf {
    target().join("xtask/bpf-linker")
}

/// The search path for tools. A plain user's PATH often lacks the `sbin` directories, where `ip`,
/// `iptables` and `tc` are.
pub fn search_path() -> Vec<PathBuf> {
    let mut dirs = vec![own_linker().join("bin")];
    if let Some(path) = env::var_os("PATH") {
        dirs.extend(env::split_paths(&path));
    }
    dirs.extend(cargo_home().map(|home| home.join("bin")));
    dirs.extend(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    dirs.retain(|dir| seen.insert(dir.clone()));
    dirs
}

/// The first file of that name on the search path.
pub fn which(program: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
