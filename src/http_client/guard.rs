//! The address guard: which places on the network the service goes to on behalf of its users. Those of the public internet
//! only, so that nobody reads the operator's own network, or a cloud machine's credentials, through us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What lies in IPv4 but not on the public internet, by prefix and its length (IANA's registry of special-purpose addresses).
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Not in the registry: what Azure's machines are steered from.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The part of IPv6 that is handed out for the public internet; nothing outside it is.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// And what in it is for protocols, tunnels and documentation.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// Under these an address of IPv4 is written in its last 32 bits: mapped, and behind a NAT64.
const EMBEDDED_V4: [(Ipv6Addr, u32); 2] =
    [(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96)];

/// Why an address is not gone to. It names no address: what a name resolves to inside is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forbidden {
    #[error("only http and https addresses can be reached")]
    Scheme,
    #[error("it is not on the public internet (ALLOW_PRIVATE_URLS=true permits that, for use on one's own network)")]
    Private,
}

/// Looks names up and gives out only what is public. Connections go to what was looked up here and nowhere else.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among them is reason enough: a name that means well has none.
            if found.iter().any(|address| !is_public(address.ip())) {
                return Err(Forbidden::Private.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What can be seen without looking a name up: a resolver is never asked for an address that stands in the URL itself.
/// Integer and octal forms of IPv4 are addresses already once a URL is parsed.
pub(super) fn check(url: &Url, public_only: bool) -> Result<(), Forbidden> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Forbidden::Scheme);
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) if public_only && !is_public(address) => Err(Forbidden::Private),
        _ => Ok(()),
    }
}

/// Whether everyone on the internet means the same machine by this address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|&(prefix, length)| begins_v4(address, prefix, length)),
        IpAddr::V6(address) => match EMBEDDED_V4.iter().find(|&&(prefix, length)| begins_v6(address, prefix, length)) {
            Some(_) => is_public(Ipv4Addr::from_bits(address.to_bits() as u32).into()),
            None => {
                begins_v6(address, GLOBAL_V6.0, GLOBAL_V6.1)
                    && !SPECIAL_V6.iter().any(|&(prefix, length)| begins_v6(address, prefix, length))
            }
        },
    }
}

fn begins_v4(address: Ipv4Addr, prefix: Ipv4Addr, length: u32) -> bool {
    (address.to_bits() ^ prefix.to_bits()) >> (Ipv4Addr::BITS - length) == 0
}

fn begins_v6(address: Ipv6Addr, prefix: Ipv6Addr, length: u32) -> bool {
    (address.to_bits() ^ prefix.to_bits()) >> (Ipv6Addr::BITS - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> Option<Forbidden> {
        check(&Url::parse(url).unwrap(), true).err()
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_form() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://169.254.169.254/latest/meta-data/",
            "http://168.63.129.16/",
            "http://10.1.2.3/",
            "http://172.31.255.255/",
            "http://192.168.0.1/",
            "http://100.64.0.1/",
            "http://100.127.255.255/",
            "http://198.19.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://192.0.0.192/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::8.8.8.8]/",
            "http://[fe80::1]/",
            "http://[fc00::1]/",
            "http://[fd00:ec2::254]/",
            "http://[ff02::1]/",
            "http://[2001:0:1::1]/",
            "http://[2001:db8::1]/",
            "http://[2002:7f00:1::]/",
            "http://[3fff::1]/",
            "http://[fec0::1]/",
            "http://[100::1]/",
        ] {
            assert_eq!(refusal(url), Some(Forbidden::Private), "{url}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "https://8.8.8.8/",
            "http://100.63.255.255/",
            "http://100.128.0.1/",
            "http://172.32.0.1/",
            "http://[2606:4700::1111]/",
            "http://[::ffff:8.8.8.8]/",
            "http://[64:ff9b::8.8.8.8]/",
            "https://example.org/talk.mp3",
        ] {
            assert_eq!(refusal(url), None, "{url}");
        }
    }

    #[test]
    fn other_schemes_are_refused_even_where_private_addresses_are_not() {
        for url in ["file:///etc/passwd", "ftp://example.org/a", "gopher://example.org/", "data:,a"] {
            assert_eq!(check(&Url::parse(url).unwrap(), false), Err(Forbidden::Scheme), "{url}");
        }
        assert_eq!(check(&Url::parse("http://127.0.0.1/").unwrap(), false), Ok(()));
    }
}
