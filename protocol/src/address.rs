//! The distinction between public and special-purpose IP addresses, and the hosts that are this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 blocks that are not public, by IANA's special-purpose address registry. Each has its prefix length.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),            // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // behind a carrier's NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // the host of a virtual machine on Azure
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and metadata services of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocols
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // DNS sinks
    (Ipv4Addr::new(192, 52, 193, 0), 24),  // multicast relays
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(192, 175, 48, 0), 24),  // DNS sinks
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, and broadcast
];

/// The block of all public IPv6 addresses. Loopback, link-local, unique local, multicast, NAT64 and IPv4-in-IPv6
/// addresses are outside of it.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The blocks within [`PUBLIC_V6`] that are not public.
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // DNS sinks
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Returns whether an address is reachable from the whole internet, and so does not belong to a private network.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| v4_in(address, *block)),
        IpAddr::V6(address) => {
            v6_in(address, PUBLIC_V6) && !SPECIAL_V6.iter().any(|block| v6_in(address, *block))
        }
    }
}

/// Returns whether a host is `localhost` or a name below it, in any case, with or without the final dot.
pub fn is_loopback_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Returns whether a host, as in a URL, is this machine: a [loopback name](is_loopback_name) or a loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    is_loopback_name(host) || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn v4_in(address: Ipv4Addr, (base, prefix): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ base.to_bits()).leading_zeros() >= prefix
}

fn v6_in(address: Ipv6Addr, (base, prefix): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ base.to_bits()).leading_zeros() >= prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> bool {
        is_public(address.parse().unwrap())
    }

    #[test]
    fn private_and_special_addresses_are_not_public() {
        let special = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",               // IPv4-compatible, deprecated
            "::ffff:127.0.0.1",       // mapped
            "::ffff:10.0.0.1",        //
            "::ffff:169.254.169.254", //
            "::ffff:0:127.0.0.1",     // translated
            "64:ff9b::7f00:1",        // NAT64
            "64:ff9b::808:808",       //
            "64:ff9b:1::1",           // network-specific NAT64
            "100::1",                 // discard-only
            "2001::1",                // Teredo
            "2001:2::1",              // benchmarks
            "2001:20::1",             // ORCHID
            "2001:db8::1",            // documentation
            "2002:7f00:1::1",         // 6to4
            "2002:808:808::1",        //
            "3fff::1",                // documentation
            "5f00::1",                // segment routing
            "fc00::1",                // unique local
            "fd00:ec2::254",          //
            "fe80::1",                // link-local
            "fec0::1",                // site-local
            "ff02::1",                // multicast
            "4000::1",                // not allocated
        ];
        for address in special {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn neighbouring_addresses_are_public() {
        let addresses = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "3ffe::1",
        ];
        for address in addresses {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn this_machine_has_many_names() {
        for name in ["localhost", "LocalHost.", "a.localhost", "A.b.LOCALHOST."] {
            assert!(is_loopback_name(name) && is_loopback_host(name), "{name}");
        }
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_host(address), "{address}");
            assert!(!is_loopback_name(address), "{address}");
        }
        for other in [
            "",
            ".",
            "0.0.0.0",
            "[::2]",
            "notlocalhost",
            "localhost..",
            "localhost.example",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback_host(other), "{other}");
        }
    }
}
