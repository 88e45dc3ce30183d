//! Whether hooks and pins are still there: others may take them away, and a daemon that runs puts them back.

use std::fs::{self, DirBuilder, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

use aya::programs::TcAttachType;
use netd_common::maps::layout::BRIEF;

use super::error::{Error, Result};
use super::hooks::{self, TcHook};
use super::load::{LAYOUTS, Pins, XDP};
use super::{Datapath, XdpMode, sys};

/// What a device is hooked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The node side of an endpoint.
    Endpoint,
    /// The inner end of a gateway pair.
    Gateway,
    /// An uplink, and how XDP is hooked on it.
    Uplink(XdpMode),
}

/// What is known of the hooks of a device by their pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// One is missing: its link is gone, or on no device, or on another one of the same name.
    Missing(&'static str),
    /// All links are on the device; whether the filters on these sides (`ingress`, `egress`) are, only the
    /// device can tell.
    Filters(Vec<&'static str>),
}

/// Pinned maps by an open descriptor each: what is unpinned can be pinned again.
pub(super) struct Anchors(Vec<(PathBuf, OwnedFd)>);

impl Anchors {
    /// Of the pinned maps of all loads.
    pub fn cast(pins: &Pins) -> Result<Self> {
        let maps = LAYOUTS.iter().map(|(name, ..)| pins.maps.join(name));
        let briefs = BRIEF.iter().map(|map| pins.brief.join(map.name));
        let open = |path: PathBuf| {
            let fd = sys::object(&path).map_err(Error::pin(&path))?;
            Ok((path, fd))
        };
        Ok(Self(maps.chain(briefs).map(open).collect::<Result<_>>()?))
    }
}

impl Datapath {
    /// Whether the hooks of a device are there.
    pub fn hooks_there(&self, device: &str, ifindex: u32, role: Role) -> Hooked {
        let dir = self.pins.device(device);
        let links: &[TcHook] = match role {
            Role::Endpoint => &[hooks::EP_OUT, hooks::EP_IN],
            Role::Gateway => &[hooks::GW_OUT],
            Role::Uplink(_) => &[hooks::UP_IN, hooks::UP_OUT],
        };
        let on_device = |pin: PathBuf| {
            let link = sys::object(&pin);
            link.is_ok_and(|l| sys::link_device(l.as_fd()).is_ok_and(|i| i == ifindex))
        };
        let mut filters = Vec::new();
        for hook in links {
            if on_device(dir.join(hook.program)) {
                continue;
            }
            if !dir.join(hooks::filter(hook.program)).exists() {
                return Hooked::Missing(hook.program);
            }
            filters.push(match hook.side {
                TcAttachType::Egress => "egress",
                TcAttachType::Ingress | TcAttachType::Custom(_) => "ingress",
            });
        }
        if let Role::Uplink(mode @ (XdpMode::Native | XdpMode::Generic)) = role
            && !on_device(dir.join(hooks::xdp_pin(mode)))
        {
            return Hooked::Missing(XDP);
        }
        Hooked::Filters(filters)
    }

    /// Pins again what is not pinned any more; the names of those maps. The directory of the instance is there,
    /// on a bpffs. Links are no concern of this: they ended with their pins, and are hooked again.
    pub fn pin_again(&mut self) -> Result<Vec<String>> {
        self.pins.make()?;
        let mut again = Vec::new();
        for (path, map) in &self.anchors.0 {
            if path.exists() {
                continue;
            }
            sys::pin(map.as_fd(), path).map_err(Error::pin(path))?;
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(Error::pin(path))?;
            let name = path.file_name().unwrap_or_default();
            again.push(name.to_string_lossy().into_owned());
        }
        let watching = self.watching.as_ref().map(|w| &w.stages);
        for stages in watching.into_iter().chain([&self.stages]) {
            if stages.pin_again()? {
                again.push(stages.pin_path().display().to_string());
            }
        }
        for device in &self.clsact {
            let mark = self.pins.mark(device);
            if !mark.exists() {
                DirBuilder::new()
                    .mode(0o700)
                    .create(&mark)
                    .map_err(Error::pin(&mark))?;
            }
        }
        Ok(again)
    }

    /// Where hooks and maps are pinned: directories to watch.
    pub fn pin_dirs(&self) -> [PathBuf; 2] {
        [self.pins.maps.clone(), self.pins.links.clone()]
    }
}
