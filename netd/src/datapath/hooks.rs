//! Hooks: TCX links or clsact filters, and XDP. All of them stay when the daemon goes: links by
//! their pins, filters by themselves. A hook that is there already gets the new program in place.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, TcAttachType, XdpMode as AyaXdp};

use nix::net::if_::if_nametoindex;

use super::error::{Error, Result, chain};
use super::load::{self, Pins, remove};
use super::watch::hooks_of;
use super::{AttachMode, XdpMode};
use crate::failpoint;

/// Priority and handle of clsact filters: how a later daemon finds its own.
pub(super) const PRIORITY: u16 = 0x6e64;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Ending of the pin of a clsact filter's program: it says that the filter is there. A pin without
/// it is a link.
const FILTER: &str = "_filter";

/// Name of the pin of a program's clsact filter.
pub(super) fn filter(program: &str) -> String {
    format!("{program}{FILTER}")
}

/// Name of the pin of an XDP link.
pub(super) fn xdp_pin(mode: XdpMode) -> String {
    format!("{}_{}", load::XDP, mode.name())
}

/// A TC program and the side of the device it is hooked on.
#[derive(Clone, Copy)]
pub(super) struct TcHook {
    pub program: &'static str,
    pub side: TcAttachType,
}

pub(super) const EP_OUT: TcHook = TcHook {
    program: "netd_ep_out",
    side: TcAttachType::Ingress,
};
pub(super) const EP_IN: TcHook = TcHook {
    program: "netd_ep_in",
    side: TcAttachType::Egress,
};
pub(super) const GW_OUT: TcHook = TcHook {
    program: "netd_gw_out",
    side: TcAttachType::Ingress,
};
pub(super) const UP_IN: TcHook = TcHook {
    program: "netd_up_in",
    side: TcAttachType::Ingress,
};
pub(super) const UP_OUT: TcHook = TcHook {
    program: "netd_up_out",
    side: TcAttachType::Egress,
};

/// All of them.
const ALL: [TcHook; 5] = [EP_OUT, EP_IN, GW_OUT, UP_IN, UP_OUT];

fn failed<'a>(device: &'a str, hook: &'static str) -> impl Fn(String) -> Error + 'a {
    move |why| Error::Hook {
        device: device.into(),
        hook,
        why,
    }
}

/// Hooks TC programs on a device. Says whether the device got a clsact qdisc for that.
pub(super) fn tc(
    ebpf: &mut Ebpf,
    pins: &Pins,
    mode: AttachMode,
    device: &str,
    hooks: &[TcHook],
) -> Result<bool> {
    let dir = pins.device(device);
    failpoint::step("making a directory for pins");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(Error::pin(&dir))?;
    let mut made = false;
    if mode == AttachMode::Clsact {
        failpoint::step("making a clsact qdisc");
        match qdisc_add_clsact(device) {
            Ok(()) => made = true,
            Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) => return Err(failed(device, "clsact")(chain(&e))),
        }
    }
    for hook in hooks {
        let link = dir.join(hook.program);
        let filter = dir.join(filter(hook.program));
        // A hook of the other mode goes when this one is in place: there is no gap.
        match mode {
            AttachMode::Tcx => {
                tcx(ebpf, &link, device, *hook)?;
                if filter.exists() {
                    remove_filter(device, hook.program);
                    remove(&filter)?;
                }
            }
            AttachMode::Clsact => {
                clsact(ebpf, &filter, device, *hook)?;
                remove(&link)?;
            }
        }
    }
    Ok(made)
}

/// Puts the program into the TCX link that is pinned for a hook. Says whether there was one.
pub(super) fn adopt(ebpf: &mut Ebpf, pins: &Pins, device: &str, hook: TcHook) -> Result<bool> {
    adopt_pin(ebpf, &pins.device(device).join(hook.program), device, hook)
}

fn adopt_pin(ebpf: &mut Ebpf, pin: &Path, device: &str, hook: TcHook) -> Result<bool> {
    let fail = failed(device, hook.program);
    let program = load::classifier(ebpf, hook.program)?;
    let Ok(old) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link: FdLink = old.into();
    let link = SchedClassifierLink::try_from(link).map_err(|e| fail(chain(&e)))?;
    failpoint::step("replacing a program");
    match program.attach_to_link(link) {
        // The link stays pinned; what aya holds of it may go.
        Ok(id) => {
            drop(program.take_link(id).map_err(|e| fail(chain(&e)))?);
            Ok(true)
        }
        // Its device is gone, and another has the name now.
        Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            Ok(false)
        }
        Err(e) => Err(fail(chain(&e))),
    }
}

fn tcx(ebpf: &mut Ebpf, pin: &Path, device: &str, hook: TcHook) -> Result<()> {
    if adopt_pin(ebpf, pin, device, hook)? {
        return Ok(());
    }
    remove(pin)?;
    let fail = failed(device, hook.program);
    let program = load::classifier(ebpf, hook.program)?;
    // First on the hook: a program before netd's that ends the chain would hide packets from it.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    failpoint::step("attaching by TCX");
    let id = program
        .attach_with_options(device, hook.side, order)
        .map_err(|e| fail(chain(&e)))?;
    let link = program.take_link(id).map_err(|e| fail(chain(&e)))?;
    let link = FdLink::try_from(link).map_err(|e| fail(chain(&e)))?;
    failpoint::step("pinning a link");
    link.pin(pin).map(drop).map_err(|e| fail(chain(&e)))
}

fn clsact(ebpf: &mut Ebpf, pin: &Path, device: &str, hook: TcHook) -> Result<()> {
    let fail = failed(device, hook.program);
    let program = load::classifier(ebpf, hook.program)?;
    let old = SchedClassifierLink::attached(device, hook.side, PRIORITY, HANDLE, None)
        .map_err(|e| fail(e.to_string()))?;
    failpoint::step("attaching by clsact");
    // Replaces the filter with this priority and handle, if there is one.
    let id = if let Ok(id) = program.attach_to_link(old) {
        id
    } else {
        let options = NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            classid: None,
        };
        program
            .attach_with_options(device, hook.side, TcAttachOptions::Netlink(options))
            .map_err(|e| fail(chain(&e)))?
    };
    // Dropping the link would remove the filter.
    let link = program.take_link(id).map_err(|e| fail(chain(&e)))?;
    std::mem::forget(link);
    // A filter cannot be pinned; its program's pin tells a later `unhook` that it is there.
    remove(pin)?;
    failpoint::step("pinning a program");
    program.pin(pin).map_err(|e| fail(chain(&e)))
}

/// Hooks XDP: native if the driver can, else generic; or as asked.
pub(super) fn xdp(
    ebpf: &mut Ebpf,
    pins: &Pins,
    device: &str,
    wanted: Option<XdpMode>,
) -> Result<XdpMode> {
    let fail = failed(device, load::XDP);
    let dir = pins.device(device);
    let modes: &[(XdpMode, AyaXdp)] = match wanted {
        None => &[
            (XdpMode::Native, AyaXdp::Driver),
            (XdpMode::Generic, AyaXdp::Skb),
        ],
        Some(XdpMode::Native) => &[(XdpMode::Native, AyaXdp::Driver)],
        Some(XdpMode::Generic) => &[(XdpMode::Generic, AyaXdp::Skb)],
        Some(XdpMode::Off) => &[],
    };
    let pin_of = |mode: XdpMode| dir.join(xdp_pin(mode));
    let program = load::xdp(ebpf)?;
    let mut why = String::new();
    // What is hooked gets the program in place, in whichever of the modes it is: to try a better one first would
    // leave the device without for a moment.
    for (mode, _) in modes {
        if let Ok(old) = PinnedLink::from_pin(pin_of(*mode)) {
            let link = XdpLink::try_from(FdLink::from(old)).map_err(|e| fail(chain(&e)))?;
            if let Ok(id) = program.attach_to_link(link) {
                drop(program.take_link(id).map_err(|e| fail(chain(&e)))?);
                return Ok(*mode);
            }
        }
    }
    for (mode, flags) in modes {
        let pin = pin_of(*mode);
        // Another mode's link would be in the way.
        for other in [XdpMode::Native, XdpMode::Generic] {
            remove(&pin_of(other))?;
        }
        match program.attach(device, *flags) {
            Ok(id) => {
                let link = program.take_link(id).map_err(|e| fail(chain(&e)))?;
                let link = FdLink::try_from(link).map_err(|e| fail(chain(&e)))?;
                link.pin(&pin).map(drop).map_err(|e| fail(chain(&e)))?;
                return Ok(*mode);
            }
            Err(e) => why = chain(&e),
        }
    }
    if wanted == Some(XdpMode::Off) {
        for other in [XdpMode::Native, XdpMode::Generic] {
            remove(&pin_of(other))?;
        }
        return Ok(XdpMode::Off);
    }
    Err(fail(why))
}

/// Puts the programs of a loaded object into every hook there is. A device that has gone meanwhile has
/// none.
pub(super) fn replace_all(ebpf: &mut Ebpf, pins: &Pins) -> Result<()> {
    for (device, names) in hooks_of(pins)? {
        for name in names {
            match replace(ebpf, pins, &device, &name) {
                Err(e) if if_nametoindex(device.as_str()).is_ok() => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The same for one hook, by the name of its pin.
fn replace(ebpf: &mut Ebpf, pins: &Pins, device: &str, name: &str) -> Result<()> {
    let pin = pins.device(device).join(name);
    let by_name = |program: &str| ALL.into_iter().find(|h| h.program == program);
    if let Some(hook) = name.strip_suffix(FILTER).and_then(by_name) {
        return clsact(ebpf, &pin, device, hook);
    }
    if let Some(hook) = by_name(name) {
        return adopt_pin(ebpf, &pin, device, hook).map(drop);
    }
    let link = PinnedLink::from_pin(&pin).map_err(|e| failed(device, load::XDP)(chain(&e)))?;
    replace_xdp(ebpf, device, link)
}

fn replace_xdp(ebpf: &mut Ebpf, device: &str, link: PinnedLink) -> Result<()> {
    let fail = failed(device, load::XDP);
    let program = load::xdp(ebpf)?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|e| fail(chain(&e)))?;
    let id = program.attach_to_link(link).map_err(|e| fail(chain(&e)))?;
    // The link stays pinned; what aya holds of it may go.
    program.take_link(id).map(drop).map_err(|e| fail(chain(&e)))
}

/// Removes the hooks of a device, and their pins.
pub(super) fn unhook(pins: &Pins, device: &str) -> Result<()> {
    let dir = pins.device(device);
    let names = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::pin(&dir)(e)),
        Ok(entries) => entries.filter_map(|e| e.ok().map(|e| e.path())),
    };
    for pin in names {
        // A pinned link ends with its pin; a filter has to be removed.
        let name = pin.file_name().and_then(|n| n.to_str());
        if let Some(program) = name.and_then(|n| n.strip_suffix(FILTER)) {
            remove_filter(device, program);
        }
        remove(&pin)?;
    }
    failpoint::step("removing a directory for pins");
    match fs::remove_dir(&dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::pin(&dir)(e)),
        _ => Ok(()),
    }
}

/// Removes the clsact filter of a program; gone with its device is as good.
fn remove_filter(device: &str, program: &str) {
    let Some(hook) = ALL.into_iter().find(|h| h.program == program) else {
        return;
    };
    if let Ok(link) = SchedClassifierLink::attached(device, hook.side, PRIORITY, HANDLE, None) {
        failpoint::step("removing a clsact filter");
        drop(link); // detaches
    }
}
