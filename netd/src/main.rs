//! The netd program: hands its arguments to [`netd::cli`] and exits as that says.

use std::process::ExitCode;

fn main() -> ExitCode {
    netd::cli::main(std::env::args_os())
}
