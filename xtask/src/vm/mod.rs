//! `cargo xtask vm`: the demo's checks and the packet suite under other kernels, in a machine that
//! QEMU emulates. No KVM, no disk, no network device: a kernel from Debian, an initrd of ours, and
//! a serial line that says how it went.

mod emulator;
mod guest;
mod initrd;
mod kernel;
mod modules;
mod qemu;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{build, setup, test::binaries};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Which of Debian's kernels to boot
    #[arg(long, value_enum, default_value = "all")]
    kernel: Choice,
    /// Send the packets of the packet suite through the oldest kernel, too: that takes long
    #[arg(long)]
    packets: bool,
}

/// Kernels by role, so that the command stays the same when Debian updates them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The oldest that netd supports
    #[value(name = "6.1")]
    Oldest,
    /// The newest that apt knows
    Newest,
    /// Both
    All,
}

/// The verb.
pub fn run(args: &Args) -> Result<()> {
    setup::vm_tools()?;
    let emulator = emulator::Emulator::ensure()?;
    build::netd_and_lab()?;
    let suites = binaries::build(["netd-tests"])?;
    let programs = initrd::Programs::new(&suites)?;

    let mut failed = Vec::new();
    for kernel in chosen(args.kernel)? {
        if let Err(error) = boot(&emulator, &kernel, &programs, args.packets) {
            println!("vm: {}: FAILED: {error:#}", kernel.version);
            failed.push(kernel.version);
        }
    }
    if !failed.is_empty() {
        bail!("failed under {}", failed.join(", "));
    }
    Ok(())
}

fn chosen(choice: Choice) -> Result<Vec<kernel::Kernel>> {
    let available = kernel::available()?;
    let oldest = kernel::newest_of_series(&available, kernel::OLDEST_SERIES)?;
    let newest = kernel::newest(&available)?;
    if newest == oldest && choice != Choice::Oldest {
        println!(
            "vm: apt knows no kernel newer than {}: only that one is booted",
            newest.version
        );
    }
    let mut chosen = match choice {
        Choice::Oldest => vec![oldest],
        Choice::Newest => vec![newest],
        Choice::All => vec![oldest, newest],
    };
    chosen.dedup();
    Ok(chosen)
}

fn boot(
    emulator: &emulator::Emulator,
    kernel: &kernel::Kernel,
    programs: &initrd::Programs,
    packets: bool,
) -> Result<()> {
    let tree = kernel.unpacked()?;
    let checks = guest::checks(kernel, programs, packets && kernel.is_oldest());
    let initrd = initrd::build(kernel, &tree, programs, &checks)?;
    let log = qemu::boot(emulator, kernel, &tree, &initrd)?;
    guest::verdict(&checks, &log)
}
