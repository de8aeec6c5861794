//! The answers of the router's DNS server, from a packet's bytes to the answer's. It is authoritative for the UI domains, where every name has the
//! same addresses, and for nothing else. Pure and independent of the rest of the program, so that it can be fuzzed alone.
//!
//! No small query gets a large answer that could be sent to a forged address: ANY gets one record (RFC 8482), zone transfers are refused, and a
//! refused or malformed query gets no more than it sent.

use std::cmp::Reverse;
use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// TTL of answers, in seconds: after this time, clients find a router that moved.
const TTL: u32 = 5;
/// TTL of the answer to ANY, in seconds: long, so that nobody repeats the query (RFC 8482, 4.2).
const TTL_OF_ANY: u32 = 3600;
/// The longest answer over UDP, in bytes, even if the client allows more: it passes every network unfragmented (DNS flag day 2020).
const UDP_MAX: u16 = 1232;
/// The longest answer over UDP to a client without EDNS, in bytes (RFC 1035).
const UDP_MAX_WITHOUT_EDNS: u16 = 512;
/// SOA: refresh, retry and expiry of secondaries, in seconds. There are none: zone transfers are refused.
const REFRESH_RETRY_EXPIRE: (i32, i32, i32) = (3600, 600, 86400);

/// How a query arrived; it limits the length of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    Udp,
    Tcp,
}

/// The UI domains, and the router's own addresses.
#[derive(Debug)]
pub struct Zone {
    /// Longest first: the first match is the closest domain.
    apexes: Vec<Apex>,
    addresses: Vec<RData>,
}

/// The records of a domain itself.
#[derive(Debug)]
struct Apex {
    name: Name,
    name_server: RData,
    authority: RData,
}

impl Apex {
    /// Fails if the domain is too long for a name below it.
    fn new(mut name: Name, serial: u32) -> Result<Self, ProtoError> {
        name.set_fqdn(true);
        // Like every name of the domain, it resolves to the router.
        let server = Name::from_ascii("ns")?.append_domain(&name)?;
        let mailbox = Name::from_ascii("hostmaster")?.append_domain(&name)?;
        let (refresh, retry, expire) = REFRESH_RETRY_EXPIRE;
        Ok(Self {
            name_server: RData::NS(NS(server.clone())),
            authority: RData::SOA(SOA::new(server, mailbox, serial, refresh, retry, expire, TTL)),
            name,
        })
    }
}

impl Zone {
    /// `serial` is the SOA's; it should grow with every start. Fails if a domain is too long for a name below it.
    pub fn new(domains: &[Name], addresses: &[IpAddr], serial: u32) -> Result<Self, ProtoError> {
        let apexes = domains.iter().map(|domain| Apex::new(domain.clone(), serial));
        let mut apexes = apexes.collect::<Result<Vec<_>, _>>()?;
        apexes.sort_by_key(|apex| Reverse(apex.name.num_labels()));
        Ok(Self {
            apexes,
            addresses: addresses.iter().copied().map(RData::from).collect(),
        })
    }

    /// The answer to a packet. `None` if it must not be answered: it is too short for a header, or is itself an answer.
    pub fn answer(&self, packet: &[u8], transport: DnsTransport) -> Option<Vec<u8>> {
        let mut decoder = BinDecoder::new(packet);
        let header = Header::read(&mut decoder).ok()?;
        if header.message_type == MessageType::Response {
            return None;
        }
        let mut answer = Message::response(header.id, header.op_code);
        answer.metadata = Metadata::response_from_request(&header.metadata);
        // For validating resolvers only (RFC 4035, 3.1.6).
        answer.metadata.checking_disabled = false;
        let mut limit = UDP_MAX_WITHOUT_EDNS;
        answer.metadata.response_code = match header.op_code {
            OpCode::Query => match question(header, &mut decoder) {
                Some((query, edns)) => {
                    let code = match &edns {
                        Some(edns) if edns.version() > 0 => ResponseCode::BADVERS,
                        _ => self.resolve(&query, &mut answer),
                    };
                    if let Some(theirs) = edns {
                        limit = theirs.max_payload().clamp(UDP_MAX_WITHOUT_EDNS, UDP_MAX);
                        let mut ours = Edns::new();
                        ours.set_max_payload(UDP_MAX).set_dnssec_ok(theirs.flags().dnssec_ok);
                        answer.set_edns(ours);
                    }
                    answer.add_query(query);
                    code
                }
                None => ResponseCode::FormErr,
            },
            _ => ResponseCode::NotImp,
        };
        let bytes = answer.to_vec().ok()?;
        if transport == DnsTransport::Tcp || bytes.len() <= limit.into() {
            return Some(bytes);
        }
        // Some of the addresses would look like all of them: the client must retry over TCP.
        answer.truncate().to_vec().ok()
    }

    /// The records for a well-formed question.
    fn resolve(&self, query: &Query, answer: &mut Message) -> ResponseCode {
        let kind = query.query_type;
        let is_transfer = matches!(kind, RecordType::AXFR | RecordType::IXFR);
        let apex = self.apexes.iter().find(|apex| apex.name.zone_of(&query.name));
        let Some(apex) = apex.filter(|_| query.query_class == DNSClass::IN && !is_transfer) else {
            return ResponseCode::Refused;
        };
        answer.metadata.authoritative = true;
        let is_apex = query.name == apex.name;
        // The owner repeats the spelling of the question: a client may compare it letter by letter.
        let owned = |ttl, data| Record::from_rdata(query.name.clone(), ttl, data);
        match kind {
            RecordType::A | RecordType::AAAA => {
                let of_kind = self.addresses.iter().filter(|data| data.record_type() == kind);
                answer.answers.extend(of_kind.map(|data| owned(TTL, data.clone())));
            }
            RecordType::SOA if is_apex => answer.answers.push(owned(TTL, apex.authority.clone())),
            RecordType::NS if is_apex => answer.answers.push(owned(TTL, apex.name_server.clone())),
            RecordType::ANY => {
                let minimal = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
                answer.answers.push(owned(TTL_OF_ANY, minimal));
            }
            _ => {}
        }
        if answer.answers.is_empty() {
            // Without the SOA, nobody may cache the answer "no such records" (RFC 2308).
            let authority = Record::from_rdata(apex.name.clone(), TTL, apex.authority.clone());
            answer.authorities.push(authority);
        }
        ResponseCode::NoError
    }
}

/// The one question of a query, and its EDNS; `None` if malformed. Counts are checked before memory is allocated.
fn question(header: Header, decoder: &mut BinDecoder<'_>) -> Option<(Query, Option<Edns>)> {
    let counts = header.counts;
    // More than one question has no meaning (RFC 9619), and a query has no answers. Only IXFR has an authority record.
    if (counts.queries, counts.answers) != (1, 0) {
        return None;
    }
    let query = Query::read(decoder).ok()?;
    Message::read_records(decoder, counts.authorities.into(), false, OpCode::Query).ok()?;
    let (_, edns, _) = Message::read_records(decoder, counts.additionals.into(), true, OpCode::Query).ok()?;
    Some((query, edns))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use proptest::prelude::*;

    use super::*;

    const SERIAL: u32 = 2_000_000_000;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn zone() -> Zone {
        let addresses = ["192.0.2.7", "192.0.2.8", "2001:db8::7"].map(|text| text.parse().unwrap());
        Zone::new(
            &[name("k8s"), name("ui.example.com"), name("example.com")],
            &addresses,
            SERIAL,
        )
        .unwrap()
    }

    fn query(text: &str, kind: RecordType) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name(text), kind));
        query
    }

    fn with_edns(mut query: Message, payload: u16) -> Message {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        query.set_edns(edns);
        query
    }

    fn answer(query: &Message) -> Message {
        let bytes = zone().answer(&query.to_vec().unwrap(), DnsTransport::Udp).unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    /// A whole authoritative answer: the question again, and these records.
    fn authoritative(query: &Message, answers: &[Record], authorities: &[Record]) -> Message {
        let mut expected = refused(query, ResponseCode::NoError);
        expected.metadata.authoritative = true;
        expected.add_answers(answers.iter().cloned());
        expected.add_authorities(authorities.iter().cloned());
        expected
    }

    fn refused(query: &Message, code: ResponseCode) -> Message {
        let mut expected = Message::response(7, query.op_code);
        expected.metadata.recursion_desired = true;
        expected.metadata.response_code = code;
        expected.add_queries(query.queries.iter().cloned());
        expected
    }

    fn address(owner: &str, address: &str) -> Record {
        let address: IpAddr = address.parse().unwrap();
        Record::from_rdata(name(owner), 5, address.into())
    }

    fn soa(domain: &str) -> Record {
        let below = |label: &str| name(&format!("{label}.{domain}"));
        let soa = SOA::new(below("ns"), below("hostmaster"), SERIAL, 3600, 600, 86400, 5);
        Record::from_rdata(name(domain), 5, RData::SOA(soa))
    }

    #[test]
    fn every_name_has_the_addresses() {
        for host in [
            "spark-10-1-2-3.ns.k8s.",
            "anything.k8s.",
            "k8s.",
            "ui.example.com.",
            "a.b.c.example.com.",
        ] {
            let v4 = query(host, RecordType::A);
            let expected = [address(host, "192.0.2.7"), address(host, "192.0.2.8")];
            assert_eq!(answer(&v4), authoritative(&v4, &expected, &[]));
            let v6 = query(host, RecordType::AAAA);
            assert_eq!(answer(&v6), authoritative(&v6, &[address(host, "2001:db8::7")], &[]));
        }
    }

    #[test]
    fn names_match_in_any_case_and_keep_their_spelling() {
        let query = query("sPaRk-MaSTer.nS.K8s.", RecordType::A);
        let bytes = zone().answer(&query.to_vec().unwrap(), DnsTransport::Udp).unwrap();
        // The question is repeated byte for byte, and each answer points at it.
        assert_eq!(bytes[12..], [&query.to_vec().unwrap()[12..], &bytes[37..]].concat());
        assert_eq!(bytes[37..39], [0xc0, 12]);
    }

    #[test]
    fn the_domain_itself_has_an_soa_and_a_name_server() {
        let soa_query = query("k8s.", RecordType::SOA);
        assert_eq!(answer(&soa_query), authoritative(&soa_query, &[soa("k8s.")], &[]));
        let ns_query = query("k8s.", RecordType::NS);
        let ns = Record::from_rdata(name("k8s."), 5, RData::NS(NS(name("ns.k8s."))));
        assert_eq!(answer(&ns_query), authoritative(&ns_query, &[ns], &[]));
    }

    #[test]
    fn negative_answers_have_the_soa_of_the_closest_domain() {
        for (host, kind, domain) in [
            ("a.ns.k8s.", RecordType::TXT, "k8s."),
            ("a.ns.k8s.", RecordType::SOA, "k8s."),
            ("a.ns.k8s.", RecordType::NS, "k8s."),
            ("k8s.", RecordType::DS, "k8s."),
            ("k8s.", RecordType::Unknown(65280), "k8s."),
            ("a.ui.example.com.", RecordType::MX, "ui.example.com."),
            ("a.example.com.", RecordType::MX, "example.com."),
        ] {
            let query = query(host, kind);
            assert_eq!(answer(&query), authoritative(&query, &[], &[soa(domain)]));
        }
        let v4_only = Zone::new(&[name("k8s")], &[[192, 0, 2, 7].into()], SERIAL).unwrap();
        let query = query("a.k8s.", RecordType::AAAA);
        let bytes = v4_only.answer(&query.to_vec().unwrap(), DnsTransport::Udp).unwrap();
        assert_eq!(
            Message::from_vec(&bytes).unwrap(),
            authoritative(&query, &[], &[soa("k8s.")])
        );
    }

    #[test]
    fn any_gets_one_record() {
        let query = query("a.ns.k8s.", RecordType::ANY);
        let minimal = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
        let record = Record::from_rdata(name("a.ns.k8s."), 3600, minimal);
        assert_eq!(answer(&query), authoritative(&query, &[record], &[]));
    }

    #[test]
    fn other_zones_classes_and_transfers_are_refused() {
        let in_class = |class| {
            let mut query = query("a.k8s.", RecordType::A);
            query.queries[0].set_query_class(class);
            query
        };
        for query in [
            query("example.org.", RecordType::A),
            query("com.", RecordType::NS),
            query(".", RecordType::NS),
            query("ak8s.", RecordType::A),
            query("k8s.attacker.example.", RecordType::A),
            query("k8s.", RecordType::AXFR),
            query("k8s.", RecordType::IXFR),
            in_class(DNSClass::CH),
            in_class(DNSClass::ANY),
            in_class(DNSClass::Unknown(17)),
        ] {
            assert_eq!(answer(&query), refused(&query, ResponseCode::Refused));
        }
        // An IXFR query as clients send it, with their SOA.
        let mut ixfr = query("k8s.", RecordType::IXFR);
        ixfr.add_authority(soa("k8s."));
        assert_eq!(answer(&ixfr), refused(&ixfr, ResponseCode::Refused));
    }

    #[test]
    fn other_opcodes_are_not_implemented() {
        for code in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(15)] {
            let mut query = query("k8s.", RecordType::SOA);
            query.metadata.op_code = code;
            let mut expected = refused(&query, ResponseCode::NotImp);
            expected.queries.clear();
            assert_eq!(answer(&query), expected);
        }
    }

    #[test]
    fn malformed_queries_get_only_a_header() {
        let twice = {
            let mut query = query("a.k8s.", RecordType::A);
            query.add_query(Query::query(name("b.k8s."), RecordType::A));
            query
        };
        let none = {
            let mut query = query("a.k8s.", RecordType::A);
            query.queries.clear();
            query
        };
        let with_answer = {
            let mut query = query("a.k8s.", RecordType::A);
            query.add_answer(address("a.k8s.", "192.0.2.7"));
            query
        };
        let two_edns = {
            let mut query = with_edns(query("a.k8s.", RecordType::A), 1232);
            query.add_additional(Record::from(&Edns::new()));
            query
        };
        for query in [twice, none, with_answer, two_edns] {
            let mut expected = refused(&query, ResponseCode::FormErr);
            expected.queries.clear();
            assert_eq!(answer(&query), expected);
        }
    }

    #[test]
    fn names_that_point_at_themselves_are_malformed() {
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for name in [
            &[0xc0, 12][..],
            &[1, b'a', 0xc0, 12],
            &[0xc0, 14, 0xc0, 12],
            &[0xff, 0xff],
            &[0x80, 0],
        ] {
            let packet = [&header, name, &[0, 1, 0, 1]].concat();
            let answer = zone().answer(&packet, DnsTransport::Udp).unwrap();
            assert_eq!(answer, [0, 7, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn answers_and_incomplete_headers_are_not_answered() {
        let query = query("a.k8s.", RecordType::A).to_vec().unwrap();
        let answer = zone().answer(&query, DnsTransport::Udp).unwrap();
        assert_eq!(zone().answer(&answer, DnsTransport::Udp), None);
        for length in 0..12 {
            assert_eq!(zone().answer(&query[..length], DnsTransport::Udp), None);
        }
    }

    #[test]
    fn edns_queries_get_an_edns_answer() {
        let mut query = with_edns(query("a.k8s.", RecordType::AAAA), 4096);
        let edns = query.edns.as_mut().unwrap();
        edns.set_dnssec_ok(true);
        edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
        let mut expected = authoritative(&query, &[address("a.k8s.", "2001:db8::7")], &[]);
        let mut ours = Edns::new();
        ours.set_max_payload(1232).set_dnssec_ok(true);
        expected.set_edns(ours.clone());
        assert_eq!(answer(&query), expected);

        query.edns.as_mut().unwrap().set_version(1);
        // BADVERS has the same number.
        let mut expected = refused(&query, ResponseCode::BADSIG);
        ours.set_rcode_high(1);
        expected.set_edns(ours);
        assert_eq!(answer(&query), expected);
    }

    #[test]
    fn answers_too_long_for_udp_are_truncated() {
        let addresses: Vec<_> = (0..100).map(|last| [192, 0, 2, last].into()).collect();
        let zone = Zone::new(&[name("k8s")], &addresses, SERIAL).unwrap();
        let plain = query("a.k8s.", RecordType::A);
        for (query, transport, limit) in [
            (plain.clone(), DnsTransport::Udp, 512),
            (with_edns(plain.clone(), 0), DnsTransport::Udp, 512),
            (with_edns(plain.clone(), 65535), DnsTransport::Udp, 1232),
        ] {
            let bytes = zone.answer(&query.to_vec().unwrap(), transport).unwrap();
            assert!(bytes.len() <= limit, "{}", bytes.len());
            let answer = Message::from_vec(&bytes).unwrap();
            assert!(answer.truncation && answer.authoritative && answer.answers.is_empty());
            assert_eq!((answer.queries.len(), answer.edns.is_some()), (1, query.edns.is_some()));
        }
        let bytes = zone.answer(&plain.to_vec().unwrap(), DnsTransport::Tcp).unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((answer.truncation, answer.answers.len()), (false, 100));
        // Header and question have 23 bytes, each address has 16, EDNS 11: 994 in all.
        let zone = Zone::new(&[name("k8s")], &addresses[..60], SERIAL).unwrap();
        for (payload, is_truncated) in [(993, true), (994, false)] {
            let query = with_edns(plain.clone(), payload).to_vec().unwrap();
            let answer = zone.answer(&query, DnsTransport::Udp).unwrap();
            assert_eq!(Message::from_vec(&answer).unwrap().truncation, is_truncated);
        }
    }

    #[test]
    fn a_domain_too_long_for_names_below_it_is_an_error() {
        let long = [&*"a".repeat(63), &"b".repeat(63), &"c".repeat(63), &"d".repeat(59)].join(".");
        assert!(Zone::new(&[name(&long)], &[], SERIAL).is_err());
    }

    /// Any bytes, and queries with some bytes changed, cut off or added.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let queries = [
            query("spark-10-1-2-3.ns.k8s.", RecordType::A),
            with_edns(query("k8s.", RecordType::ANY), 4096),
        ];
        let changed = (
            proptest::sample::select(queries.map(|query| query.to_vec().unwrap()).to_vec()),
            proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            proptest::collection::vec(any::<u8>(), 0..64),
            any::<proptest::sample::Index>(),
        );
        let changed = changed.prop_map(|(mut packet, changes, more, end)| {
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut packet) = *byte);
            packet.extend(more);
            packet.truncate(end.index(packet.len() + 1));
            packet
        });
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), changed]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn any_packet_gets_a_short_answer_or_none(packet in packets()) {
            if let Some(bytes) = zone().answer(&packet, DnsTransport::Udp) {
                let answer = Message::from_vec(&bytes).unwrap();
                prop_assert_eq!(answer.message_type, MessageType::Response);
                prop_assert_eq!(&bytes[..2], &packet[..2]);
                prop_assert!(bytes.len() <= 512 && bytes.len() <= packet.len() * 4, "{} bytes", bytes.len());
            } else {
                prop_assert!(packet.len() < 12 || packet[2] & 0x80 != 0);
            }
        }
    }
}
