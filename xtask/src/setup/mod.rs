//! `cargo xtask setup`: makes the tools be there. Every verb calls the part it needs; when nothing
//! is missing that is a handful of `stat` calls.

mod apt;
mod linker;
mod toolchain;
mod toolchain_file;

use anyhow::Result;

pub use toolchain_file::Toolchain;

use apt::Tool;

/// What the lab and its suites call.
const LAB_TOOLS: &[Tool] = &[
    Tool::new("ip", "iproute2"),
    Tool::new("tc", "iproute2"),
    Tool::new("ss", "iproute2"),
    Tool::new("ping", "iputils-ping"),
    Tool::new("traceroute", "traceroute"),
    Tool::new("tracepath", "iputils-tracepath"),
    Tool::new("mtr", "mtr-tiny"),
    Tool::new("mtr-packet", "mtr-tiny"),
    Tool::new("socat", "socat"),
    Tool::new("nc", "netcat-openbsd"),
    Tool::new("iperf3", "iperf3"),
    Tool::new("curl", "curl"),
    Tool::new("iptables", "iptables"),
    Tool::new("ip6tables", "iptables"),
    Tool::new("nft", "nftables"),
    Tool::new("ethtool", "ethtool"),
    Tool::new("tcpdump", "tcpdump"),
    Tool::new("tshark", "tshark"),
    Tool::new("sysctl", "procps"),
    Tool::new("nsenter", "util-linux"),
];

/// What `cargo xtask vm` calls beyond the lab's tools and QEMU, which it keeps to itself.
const VM_TOOLS: &[Tool] = &[
    Tool::new("busybox", "busybox-static"),
    Tool::new("cpio", "cpio"),
    Tool::new("dpkg-deb", "dpkg"),
];

/// The verb: everything any verb needs.
pub fn run() -> Result<()> {
    let toolchain = build_tools()?;
    apt::ensure_tools("the lab", LAB_TOOLS)?;
    apt::ensure_tools("the VM", VM_TOOLS)?;
    println!(
        "eBPF toolchain: {} {}, LLVM {} ({})",
        toolchain.kind,
        toolchain.release,
        toolchain.llvm,
        toolchain.rustc.display()
    );
    println!("BPF linker:     {}", toolchain.linker.display());
    println!("lab and VM:     all tools are there");
    Ok(())
}

/// What building needs: a compiler with the sources of `core`, and the BPF linker.
pub fn build_tools() -> Result<Toolchain> {
    let forced = toolchain::Path::forced()?;
    if let Some(known) = Toolchain::remembered()
        && forced.is_none_or(|path| path == known.kind.path())
    {
        return Ok(known);
    }
    let compiler = toolchain::ensure(forced)?;
    let linker = linker::ensure()?;
    let toolchain = Toolchain::new(compiler, linker)?;
    toolchain.remember()?;
    Ok(toolchain)
}

/// Building, and running the lab.
pub fn lab_tools() -> Result<Toolchain> {
    let toolchain = build_tools()?;
    apt::ensure_tools("the lab", LAB_TOOLS)?;
    Ok(toolchain)
}

/// Building, the lab (its tools go into the guest) and the emulated machine.
pub fn vm_tools() -> Result<Toolchain> {
    let toolchain = lab_tools()?;
    apt::ensure_tools("the VM", VM_TOOLS)?;
    Ok(toolchain)
}

/// The programs a lab needs, for copying them into a guest.
pub fn lab_programs() -> impl Iterator<Item = &'static str> {
    // tshark brings 100 MB of libraries, and nothing that runs in the guest calls it.
    let programs = LAB_TOOLS.iter().map(|tool| tool.program);
    programs.filter(|program| *program != "tshark")
}

/// Brings the package lists up to date, once per run.
pub fn update_package_lists() -> Result<()> {
    apt::update()
}
