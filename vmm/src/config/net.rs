//! A network interface, as it is typed.

use std::fmt;
use std::str::FromStr;

use super::{BucketConfig, Error, RateLimitConfig, RateUnit};

/// What an interface is called: the user's name for it, and the name of its section. The guest does not learn it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetId(String);

impl NetId {
    /// The longest id, in bytes.
    pub const MAX: usize = 20;

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if text.is_empty() || text.len() > Self::MAX || !is_plain {
            return Err(Error::NetId { value: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a TAP interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TapName(String);

impl TapName {
    /// The longest name that an interface has, in bytes (`IFNAMSIZ` without the NUL).
    pub const MAX: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TapName {
    type Err = Error;

    /// What the kernel takes (`dev_valid_name`), of ASCII; and no `%`, which means a pattern to it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"/:%,".contains(&b));
        if text.is_empty() || text.len() > Self::MAX || !is_plain || text == "." || text == ".." {
            return Err(Error::TapName { value: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The address of a network interface: not a group's, and not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    /// Six pairs of hexadecimal digits with colons between them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Mac { value: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refused)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refused());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        let is_group = bytes[0] & 1 != 0;
        if parts.next().is_some() || is_group || bytes == [0; 6] {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network interface of a VM that is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// What it is called.
    pub id: NetId,
    /// The TAP behind it, which must exist.
    pub tap: TapName,
    /// Its address; without one the guest makes one up.
    pub mac: Option<MacAddr>,
    /// What the guest may receive.
    pub rx_limit: RateLimitConfig,
    /// What the guest may send.
    pub tx_limit: RateLimitConfig,
}

impl FromStr for NetConfig {
    type Err = Error;

    /// Takes `ID=tap:NAME` and, after commas, `mac=`, `rx-bw=`, `rx-ops=`, `tx-bw=` and `tx-ops=`, each at most once.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let (id, tap) = id_and_tap(parts.next().unwrap_or_default(), text)?;
        let mut net = Self { id, tap, mac: None, rx_limit: Default::default(), tx_limit: Default::default() };
        for part in parts {
            let refused = || Error::NetOption { value: part.to_owned() };
            let (name, value) = part.split_once('=').ok_or_else(refused)?;
            let is_new = match name {
                "mac" => net.mac.replace(value.parse()?).is_none(),
                "rx-bw" => limit(&mut net.rx_limit.bandwidth, value, RateUnit::Bytes)?,
                "rx-ops" => limit(&mut net.rx_limit.operations, value, RateUnit::Operations)?,
                "tx-bw" => limit(&mut net.tx_limit.bandwidth, value, RateUnit::Bytes)?,
                "tx-ops" => limit(&mut net.tx_limit.operations, value, RateUnit::Operations)?,
                _ => return Err(refused()),
            };
            if !is_new {
                return Err(refused());
            }
        }
        Ok(net)
    }
}

/// Sets a limit; says whether there was none before.
fn limit(bucket: &mut Option<BucketConfig>, value: &str, unit: RateUnit) -> Result<bool, Error> {
    Ok(bucket.replace(BucketConfig::parse(value, unit)?).is_none())
}

fn id_and_tap(text: &str, whole: &str) -> Result<(NetId, TapName), Error> {
    let refused = || Error::NetSyntax { value: whole.to_owned() };
    let (id, backend) = text.split_once('=').ok_or_else(refused)?;
    let tap = backend.strip_prefix("tap:").ok_or_else(refused)?;
    Ok((id.parse()?, tap.parse()?))
}

/// Another TAP for an interface of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOverride {
    /// The interface.
    pub id: NetId,
    /// The TAP behind it from now on.
    pub tap: TapName,
}

impl FromStr for NetOverride {
    type Err = Error;

    /// Takes `ID=tap:NAME` and nothing else: what the guest knows of its interface stays as it is.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains(',') {
            return Err(Error::NetOverride { value: text.to_owned() });
        }
        let (id, tap) = id_and_tap(text, text)?;
        Ok(Self { id, tap })
    }
}
