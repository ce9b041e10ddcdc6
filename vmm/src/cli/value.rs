//! Typed values of arguments, with the whole reason when one is refused: clap prints one line and no causes.

use std::error::Error;
use std::ffi::OsString;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use vmm::config::{self, DiskConfig, DiskPath, ReportTarget, SerialConfig, VsockConfig, VsockPath};

/// Any value that its type reads from text.
pub(super) fn text<T: FromStr<Err = config::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| one_line(&error))
}

/// `stdio|null|file:PATH`, where the path need not be UTF-8.
pub(super) fn serial() -> impl TypedValueParser<Value = SerialConfig> {
    OsStringValueParser::new().try_map(|text: OsString| SerialConfig::parse(&text))
}

/// `ID=PATH[,OPTION]...`, where the path need not be UTF-8.
pub(super) fn disk() -> impl TypedValueParser<Value = DiskConfig> {
    OsStringValueParser::new().try_map(|text: OsString| DiskConfig::parse(&text))
}

/// `ID=PATH`, where the path need not be UTF-8.
pub(super) fn disk_path() -> impl TypedValueParser<Value = DiskPath> {
    OsStringValueParser::new().try_map(|text: OsString| DiskPath::parse(&text))
}

/// `cid=N,uds=PATH`, where the path need not be UTF-8.
pub(super) fn vsock() -> impl TypedValueParser<Value = VsockConfig> {
    OsStringValueParser::new().try_map(|text: OsString| VsockConfig::parse(&text))
}

/// `uds=PATH`, where the path need not be UTF-8.
pub(super) fn vsock_path() -> impl TypedValueParser<Value = VsockPath> {
    OsStringValueParser::new().try_map(|text: OsString| VsockPath::parse(&text))
}

/// A path or `-`.
pub(super) fn report() -> impl TypedValueParser<Value = ReportTarget> {
    OsStringValueParser::new().try_map(|text: OsString| ReportTarget::parse(&text))
}

fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
