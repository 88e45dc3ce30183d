//! What the daemon is told: command-line flags over a TOML file over defaults, checked once.

mod flows;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netd_api::{Filtering, MasqueradePortsError, Profile};
use netd_common::flow::Timeouts;
use serde::Deserialize;

use self::flows::Flows;
use crate::model::{masquerade, name, publish};

/// Seconds between two looks at everything, where nobody says.
const SWEEP: u64 = 30;

/// How TC programs are to be hooked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AttachChoice {
    /// TCX where the kernel has it (6.6 and later), else clsact.
    #[default]
    Auto,
    /// TCX links.
    Tcx,
    /// clsact filters.
    Clsact,
}

/// How XDP is to be hooked on uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpChoice {
    /// In the driver, else in the stack.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the stack.
    Generic,
    /// Not at all.
    Off,
}

/// What the command line says; what is left out comes from the file, else is a default.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// TOML file.
    pub config: Option<PathBuf>,
    /// Instance name; `default`.
    pub instance: Option<String>,
    /// Uplinks; empty: the devices of the default routes.
    pub uplinks: Vec<String>,
    /// Cgroup the socket hooks sit on.
    pub cgroup: Option<PathBuf>,
    /// State directory; `/var/lib/netd`.
    pub state_dir: Option<PathBuf>,
    /// Run directory; `/run/netd`.
    pub run_dir: Option<PathBuf>,
    /// Directory of the pins; `/sys/fs/bpf/netd`.
    pub bpf_dir: Option<PathBuf>,
    /// How TC programs are hooked.
    pub attach_mode: Option<AttachChoice>,
    /// How XDP is hooked.
    pub xdp: Option<XdpChoice>,
    /// Masquerade of networks that do not say.
    pub masquerade: masquerade::Options,
    /// Log lines of the programs, and more of the daemon's.
    pub verbose: bool,
    /// What is logged: a level or a filter.
    pub log: Option<String>,
}

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    instance: Option<String>,
    uplinks: Vec<String>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    bpf_dir: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    deny: Vec<IpNet>,
    attach_mode: Option<AttachChoice>,
    xdp: Option<XdpChoice>,
    sweep: Option<u64>,
    flows: Flows,
    masquerade: Masquerade,
    publish: PublishFile,
    pools: PoolsFile,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PublishFile {
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Masquerade {
    profile: Option<Profile>,
    filtering: Option<Filtering>,
    ports: Option<String>,
}

impl Masquerade {
    fn options(&self) -> Result<masquerade::Options, ConfigError> {
        let ports = self.ports.as_deref().map(|text| {
            text.parse()
                .map_err(|e: MasqueradePortsError| value("masquerade.ports", text, e.to_string()))
        });
        Ok(masquerade::Options {
            profile: self.profile,
            filtering: self.filtering,
            ports: ports.transpose()?,
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PoolsFile {
    v4: Option<Ipv4Net>,
    v6: Option<Ipv6Net>,
}

/// Where subnets of networks without `--subnet` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Cut into /24.
    pub v4: Ipv4Net,
    /// Cut into /64; none: the node's stored random ULA /48.
    pub v6: Option<Ipv6Net>,
}

/// Everything the daemon needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Instance name.
    pub instance: String,
    /// Uplinks; empty: the devices of the default routes.
    pub uplinks: Vec<String>,
    /// State directory.
    pub state_dir: PathBuf,
    /// Run directory.
    pub run_dir: PathBuf,
    /// Directory of the pins.
    pub bpf_dir: PathBuf,
    /// Cgroup the socket hooks sit on.
    pub cgroup: Option<PathBuf>,
    /// Source prefixes whose packets die in XDP.
    pub deny: Vec<IpNet>,
    /// How TC programs are hooked.
    pub attach_mode: AttachChoice,
    /// How XDP is hooked.
    pub xdp: XdpChoice,
    /// How often everything is looked at, whatever the kernel told.
    pub sweep: Duration,
    /// Entries of each flow table.
    pub flow_entries: u32,
    /// Flows an endpoint may have; none: a share of the table.
    pub flows_per_endpoint: Option<u32>,
    /// How long flows live.
    pub flow_timeouts: Timeouts,
    /// Masquerade of networks that do not say.
    pub masquerade: masquerade::Options,
    /// Where a publish without host address is: at most one address of each family; empty: on all.
    pub publish_addresses: Vec<IpAddr>,
    /// Default pools.
    pub pools: Pools,
    /// Log lines of the programs too.
    pub verbose: bool,
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration file {path}: {why}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, on one line.
        why: String,
    },
    /// A value is out of its range.
    #[error("{what} {value:?} is refused: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        why: String,
    },
}

impl DaemonOptions {
    /// Reads the file, if there is one, and merges: flags beat the file, the file beats defaults.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let instance = self
            .instance
            .clone()
            .or(file.instance)
            .unwrap_or_else(|| "default".to_owned());
        name::check("instance", &instance)
            .map_err(|e| value("instance", &instance, e.to_string()))?;
        let suffix = if instance == "default" {
            String::new()
        } else {
            format!("-{instance}")
        };
        let dir = |flag: &Option<PathBuf>, file: Option<PathBuf>, parent: &str| {
            flag.clone()
                .or(file)
                .unwrap_or_else(|| format!("{parent}/netd{suffix}").into())
        };
        let uplinks = if self.uplinks.is_empty() {
            file.uplinks
        } else {
            self.uplinks.clone()
        };
        for uplink in &uplinks {
            name::check_device(uplink).map_err(|e| value("uplink", uplink, e.to_string()))?;
        }
        let settings = Settings {
            uplinks,
            state_dir: dir(&self.state_dir, file.state_dir, "/var/lib"),
            run_dir: dir(&self.run_dir, file.run_dir, "/run"),
            bpf_dir: dir(&self.bpf_dir, file.bpf_dir, "/sys/fs/bpf"),
            instance,
            cgroup: self.cgroup.clone().or(file.cgroup),
            deny: file.deny.iter().map(IpNet::trunc).collect(),
            attach_mode: self.attach_mode.or(file.attach_mode).unwrap_or_default(),
            xdp: self.xdp.or(file.xdp).unwrap_or_default(),
            sweep: sweep(file.sweep)?,
            flow_entries: file.flows.entries()?,
            flows_per_endpoint: file.flows.per_endpoint()?,
            flow_timeouts: file.flows.timeouts()?,
            masquerade: self.masquerade.or(file.masquerade.options()?),
            publish_addresses: publish_addresses(file.publish.addresses)?,
            pools: pools(&file.pools)?,
            verbose: self.verbose,
        };
        for (what, path) in [
            ("state directory", &settings.state_dir),
            ("run directory", &settings.run_dir),
            ("bpf directory", &settings.bpf_dir),
        ] {
            if !path.is_absolute() {
                return Err(value(
                    what,
                    &path.to_string_lossy(),
                    "give an absolute path".into(),
                ));
            }
        }
        Ok(settings)
    }
}

fn value(what: &'static str, value: &str, why: String) -> ConfigError {
    ConfigError::Value {
        what,
        value: value.into(),
        why,
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    toml::from_str(&text).map_err(|e| {
        let line = e
            .span()
            .map_or(1, |s| text[..s.start].matches('\n').count() + 1);
        let why = format!("line {line}: {}", e.message().replace('\n', " "));
        ConfigError::Parse {
            path: path.into(),
            why,
        }
    })
}

fn publish_addresses(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, ConfigError> {
    let refuse =
        |ip: IpAddr, why: &str| Err(value("publish.addresses", &ip.to_string(), why.to_owned()));
    for (i, ip) in addresses.iter().enumerate() {
        let again = addresses.iter().take(i);
        if again.into_iter().any(|o| o.is_ipv4() == ip.is_ipv4()) {
            return refuse(*ip, "one address of each family is enough");
        }
        if let Err(why) = publish::host_address(*ip) {
            return refuse(*ip, &why);
        }
    }
    Ok(addresses)
}

fn sweep(seconds: Option<u64>) -> Result<Duration, ConfigError> {
    let seconds = seconds.unwrap_or(SWEEP);
    if !(1..=3600).contains(&seconds) {
        let why = "give 1 to 3600 seconds".into();
        return Err(value("sweep", &seconds.to_string(), why));
    }
    Ok(Duration::from_secs(seconds))
}

fn pools(file: &PoolsFile) -> Result<Pools, ConfigError> {
    let v4 = match file.v4 {
        Some(net) => net.trunc(),
        None => Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 210, 0, 0), 16),
    };
    if v4.prefix_len() > 24 {
        return Err(value(
            "pools.v4",
            &v4.to_string(),
            "it must hold at least one /24".into(),
        ));
    }
    let v6 = file.v6.map(|net| net.trunc());
    if let Some(net) = v6.filter(|net| net.prefix_len() > 64) {
        return Err(value(
            "pools.v6",
            &net.to_string(),
            "it must hold at least one /64".into(),
        ));
    }
    Ok(Pools { v4, v6 })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn with(text: &str, options: &DaemonOptions) -> Result<Settings, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        DaemonOptions {
            config: Some(file.path().into()),
            ..options.clone()
        }
        .settings()
    }

    #[test]
    fn defaults_follow_the_instance() {
        let s = DaemonOptions::default().settings().unwrap();
        assert_eq!(s.instance, "default");
        assert_eq!(s.state_dir, Path::new("/var/lib/netd"));
        assert_eq!(s.run_dir, Path::new("/run/netd"));
        assert_eq!(s.bpf_dir, Path::new("/sys/fs/bpf/netd"));
        assert_eq!(s.masquerade, masquerade::Options::default());
        let lab = DaemonOptions {
            instance: Some("lab".into()),
            ..DaemonOptions::default()
        };
        let s = lab.settings().unwrap();
        assert_eq!(s.state_dir, Path::new("/var/lib/netd-lab"));
        assert_eq!(s.bpf_dir, Path::new("/sys/fs/bpf/netd-lab"));
    }

    #[test]
    fn flags_beat_the_file() {
        let text = "instance = 'file'\nuplinks = ['eth9']\nxdp = 'off'\nattach_mode = 'clsact'\n\
                    deny = ['192.0.2.7/24', '2001:db8::/32']\n[flows]\nentries = 4096\n\
                    [masquerade]\nports = '2000-3000'\nprofile = 'strict'\n\
                    filtering = 'endpoint-independent'\n[pools]\nv4 = '10.9.0.0/16'\n\
                    [publish]\naddresses = ['127.0.0.1', '::1']\n";
        let s = with(text, &DaemonOptions::default()).unwrap();
        assert_eq!(
            (s.instance.as_str(), s.uplinks.as_slice()),
            ("file", &["eth9".to_owned()][..])
        );
        assert_eq!(
            (s.xdp, s.attach_mode),
            (XdpChoice::Off, AttachChoice::Clsact)
        );
        assert_eq!(s.deny[0].to_string(), "192.0.2.0/24");
        let masquerade = masquerade::Options {
            profile: Some(Profile::Strict),
            filtering: Some(Filtering::EndpointIndependent),
            ports: "2000-3000".parse().ok(),
        };
        assert_eq!((s.flow_entries, s.masquerade), (4096, masquerade));
        let local = s.publish_addresses.iter().map(ToString::to_string);
        assert_eq!(local.collect::<Vec<_>>(), ["127.0.0.1", "::1"]);
        let flags = DaemonOptions {
            instance: Some("flag".into()),
            uplinks: vec!["up0".into()],
            xdp: Some(XdpChoice::Generic),
            masquerade: masquerade::Options {
                profile: Some(Profile::Balanced),
                ..masquerade::Options::default()
            },
            ..DaemonOptions::default()
        };
        let s = with(text, &flags).unwrap();
        let profile = Some(Profile::Balanced);
        assert_eq!(
            s.masquerade,
            masquerade::Options {
                profile,
                ..masquerade
            }
        );
        assert_eq!(
            (s.instance.as_str(), s.uplinks[0].as_str()),
            ("flag", "up0")
        );
        assert_eq!(
            (s.xdp, s.attach_mode),
            (XdpChoice::Generic, AttachChoice::Clsact)
        );
    }

    #[test]
    fn a_bad_file_is_refused_on_one_line_that_says_where() {
        for (text, part) in [
            ("upliks = ['x']\n", "upliks"),
            ("\n\n[flows]\nsize = 3\n", "line 4"),
            ("[flows]\nentries = 3\n", "flows.entries"),
            (
                "[masquerade]\nports = '9-1'\n",
                "masquerade.ports \"9-1\" is refused",
            ),
            ("[masquerade]\nprofile = 'loose'\n", "line 2"),
            ("[masquerade]\nfiltering = 'none'\n", "endpoint-independent"),
            ("deny = ['1.2.3.4/40']\n", "line 1"),
            (
                "[publish]\naddresses = ['192.0.2.1', '192.0.2.2']\n",
                "one address",
            ),
            (
                "[publish]\naddresses = ['224.0.0.1']\n",
                "publish.addresses",
            ),
            ("[publish]\naddresses = ['up0']\n", "line 2"),
            ("uplinks = ['a name of 16 ch']\n", "uplink"),
            ("state_dir = 'relative'\n", "absolute"),
            ("instance = '-x'\n", "instance"),
        ] {
            let e = with(text, &DaemonOptions::default())
                .unwrap_err()
                .to_string();
            assert!(e.contains(part) && !e.contains('\n'), "{text:?}: {e}");
        }
    }
}
