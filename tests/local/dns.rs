//! The built-in router's DNS server: what `dig` and a forwarding dnsmasq make of it, and what those who mean harm do not.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kit::dns::{addresses, addresses_in, dnsmasq, query, receive, socket};
use crate::kit::run;
use crate::kit::server::Router;

const PORT: u16 = 5353;
const HOST: &str = "spark-10-1-2-3.ns.k8s";
const ROUTED: [[u8; 4]; 1] = [[192, 0, 2, 7]];
const A: u16 = 1;
const ANY: u16 = 255;

/// A router whose names are at 192.0.2.7, listening at an address that no other test has.
fn router(address: &str) -> Router {
    Router::start(&[
        "--no-http",
        "--dns",
        &format!("{address}:{PORT}"),
        "--address",
        "192.0.2.7",
    ])
}

/// What dig prints, with runs of spaces made one.
fn dig(server: &str, question: &str) -> String {
    let mut command = Command::new("dig");
    command.args([
        "-r",
        &format!("@{server}"),
        "-p",
        &PORT.to_string(),
        "+tries=1",
        "+norecurse",
    ]);
    let output = command
        .args(question.split(' '))
        .output()
        .expect("dig: install bind9-dnsutils");
    let text = String::from_utf8_lossy(&output.stdout).replace('\t', " ");
    text.lines()
        .map(|line| {
            line.split(' ')
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
                + "\n"
        })
        .collect()
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "not there: {part}\n{text}");
    }
}

/// Whether a good query is answered now, on a new socket or connection.
fn is_served(address: &str) -> bool {
    addresses((address, PORT), HOST).is_some_and(|found| found == ROUTED)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect((address, PORT)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// With the length before it, as TCP has it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

#[test]
fn dig_gets_what_an_authority_says() {
    let address = "127.0.8.1";
    let listen = format!("{address}:{PORT}");
    let names = ["--domain", "k8s", "--domain", "ui.test"];
    let to = ["--address", "192.0.2.7", "--address", "2001:db8::7"];
    let _router = Router::start(&[&["--no-http", "--dns", &listen][..], &names, &to].concat());
    let dig = |question: &str| dig(address, question);

    assert_has(
        &dig("spark-Master.NS.k8s A"),
        &[
            "status: NOERROR",
            "flags: qr aa;",
            "spark-Master.NS.k8s. 5 IN A 192.0.2.7",
            "udp: 1232",
        ],
    );
    assert_has(
        &dig("x.ui.test AAAA"),
        &["flags: qr aa;", "x.ui.test. 5 IN AAAA 2001:db8::7"],
    );
    assert_has(
        &dig("+tcp spark-master.ns.k8s A"),
        &["(TCP)", "spark-master.ns.k8s. 5 IN A 192.0.2.7"],
    );
    assert_has(&dig("ui.test NS"), &["flags: qr aa;", "ui.test. 5 IN NS ns.ui.test."]);
    assert_has(&dig("ns.ui.test A"), &["ns.ui.test. 5 IN A 192.0.2.7"]);
    assert_has(
        &dig("ui.test SOA"),
        &["flags: qr aa;", "ui.test. 5 IN SOA ns.ui.test. hostmaster.ui.test. "],
    );
    for nothing in ["a.k8s TXT", "a.k8s HTTPS", "a.k8s NS", "k8s DS"] {
        assert_has(
            &dig(nothing),
            &[
                "status: NOERROR",
                "flags: qr aa;",
                "ANSWER: 0, AUTHORITY: 1",
                "\nk8s. 5 IN SOA ",
            ],
        );
    }
    assert_has(
        &dig("+notcp a.k8s ANY"),
        &["ANSWER: 1,", "a.k8s. 3600 IN HINFO \"RFC8482\" \"\""],
    );

    for other in [
        "example.org A",
        ". NS",
        "k8s.example.org A",
        "k8s IXFR=1",
        "version.bind CH TXT",
    ] {
        let said = dig(other);
        assert!(
            said.contains("status: REFUSED") || said.contains("Transfer failed"),
            "{other}: {said}"
        );
        assert!(!said.contains("flags: qr aa"), "{other}: {said}");
    }
    assert_has(&dig("k8s AXFR"), &["Transfer failed."]);
    assert_has(
        &dig("+recurse example.org A"),
        &["recursion requested but not available"],
    );
    assert_has(&dig("+opcode=notify k8s SOA"), &["status: NOTIMP"]);
    assert_has(
        &dig("+edns=1 +noednsneg a.k8s A"),
        &["status: BADVERS", "EDNS: version: 0"],
    );
    assert_has(
        &dig("+dnssec a.k8s A"),
        &["EDNS: version: 0, flags: do; udp: 1232", "192.0.2.7"],
    );
    let without = dig("+noedns a.k8s A");
    assert!(without.contains("192.0.2.7") && !without.contains("EDNS"), "{without}");
}

#[test]
fn what_does_not_fit_is_asked_over_tcp() {
    let address = "127.0.8.2";
    let mut arguments = vec!["--no-http".to_owned(), "--dns".to_owned(), format!("{address}:{PORT}")];
    arguments.extend((0..60).flat_map(|last| ["--address".into(), format!("192.0.2.{last}")]));
    let _router = Router::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (size, is_truncated) in [("+noedns", true), ("+bufsize=600", true), ("+bufsize=4096", false)] {
        let said = dig(address, &format!("{size} +ignore a.k8s A"));
        assert_eq!(said.contains("flags: qr aa tc;"), is_truncated, "{said}");
        assert_eq!(said.contains("ANSWER: 0,"), is_truncated, "{said}");
        // And so dig does by itself.
        assert_has(
            &dig(address, &format!("{size} a.k8s A")),
            &["ANSWER: 60,", "192.0.2.59"],
        );
    }
}

#[test]
fn a_resolver_forwards_the_domain_to_it() {
    let (address, resolver) = ("127.0.8.3", "127.0.8.4");
    let _router = router(address);
    let forwarded = format!("--server=/k8s/{address}#{PORT}");
    let _dnsmasq = dnsmasq(resolver, &["--conf-file=/dev/null".to_owned(), forwarded]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_served(resolver) {
        assert!(Instant::now() < deadline, "dnsmasq does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_answers_from_the_address_that_was_asked() {
    let port = 5380;
    let _router = Router::start(&[
        "--no-http",
        "--dns",
        &format!("0.0.0.0:{port}"),
        "--address",
        "192.0.2.7",
    ]);
    for asked in ["127.0.0.1", "127.0.8.5", "127.255.0.8"] {
        assert_eq!(addresses((asked, port), HOST), Some(ROUTED.to_vec()), "{asked}");
    }
}

/// Packets that nobody should send, and whether there is an answer.
fn hostile() -> Vec<(&'static str, Vec<u8>, bool)> {
    let good = query(1, HOST, A);
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    vec![
        ("nothing", vec![], false),
        ("a truncated header", good[..11].to_vec(), false),
        ("an answer", with(2, &[0x81]), false),
        ("a header alone", header.to_vec(), true),
        ("a truncated question", good[..good.len() - 1].to_vec(), true),
        (
            "a name that points at itself",
            [&header[..], &[0xc0, 12, 0, 1, 0, 1]].concat(),
            true,
        ),
        (
            "a name that points ahead",
            [&header[..], &[0xc0, 18, 0, 1, 0, 1, 0xc0, 12]].concat(),
            true,
        ),
        (
            "two names that point at each other",
            [&header[..], &[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]].concat(),
            true,
        ),
        ("a label that is too long", [&header[..], &[0x40; 80]].concat(), true),
        ("many questions announced", with(4, &[0xff, 0xff]), true),
        (
            "many questions",
            [&with(4, &[0, 200])[..], &good[12..].repeat(199)].concat(),
            true,
        ),
        ("many records announced", with(6, &[0xff; 6]), true),
        ("a giant packet", [&good[..], &[0; 60_000]].concat(), true),
        ("a giant name", [&header[..], &[1, b'a'].repeat(30_000)].concat(), true),
        (
            "many additional records",
            [
                &with(10, &[0x10, 0])[..],
                &[0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0].repeat(4096),
            ]
            .concat(),
            true,
        ),
        ("an update", with(2, &[0x29]), true),
        ("ANY", query(1, "k8s", ANY), true),
        ("ANY of another zone", query(1, "org", ANY), true),
        ("a zone transfer", query(1, "k8s", 252), true),
        ("a signature asked for", query(1, "k8s", 46), true),
        (
            "the version asked for",
            {
                let mut packet = query(1, "version.bind", 16);
                *packet.last_mut().unwrap() = 3;
                packet
            },
            true,
        ),
    ]
}

#[test]
fn harm_is_answered_shortly_and_the_next_query_as_ever() {
    let address = "127.0.8.6";
    let _router = router(address);
    let good = query(2, HOST, A);
    for (what, packet, is_answered) in hostile() {
        let socket = socket((address, PORT));
        socket.send(&packet).unwrap();
        // Answers come in order: had the first packet got one, it would be the first here too.
        socket.send(&good).unwrap();
        let first = receive(&socket).expect(what);
        assert_eq!(first[..2], [0, if is_answered { 1 } else { 2 }], "{what}: {first:?}");
        assert!(first[2] & 0x80 != 0, "{what} is answered by a query");
        if is_answered {
            assert!(
                first.len() <= packet.len() * 4,
                "{what}: {} bytes for {}",
                first.len(),
                packet.len()
            );
            assert!(first.len() <= 512, "{what}: {} bytes", first.len());
            let second = receive(&socket).expect(what);
            assert_eq!(addresses_in(&second, good.len()), ROUTED, "{what}");
        }
    }
}

#[test]
fn a_flood_of_junk_keeps_nobody_waiting() {
    let address = "127.0.8.7";
    let _router = router(address);
    let packets: Vec<_> = hostile().into_iter().map(|(_, packet, _)| packet).collect();
    let flooding = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for packet in packets.iter().cycle().take(20_000) {
        flooding.send_to(packet, (address, PORT)).unwrap();
    }
    // The last of them may still be in the queue, and push the first queries out.
    assert!((0..5).any(|_| is_served(address)));
}

#[test]
fn queries_on_one_connection_are_answered_in_order() {
    let address = "127.0.8.8";
    let _router = router(address);
    let mut stream = connect(address);
    let queries: Vec<_> = (0..500).flat_map(|id| framed(&query(id, HOST, A))).collect();
    // The last byte comes later: a query in two parts is one.
    stream.write_all(&queries[..queries.len() - 1]).unwrap();
    for id in 0..499_u16 {
        let answer = read_framed(&mut stream);
        assert_eq!(
            (&answer[..2], addresses_in(&answer, 39)),
            (&id.to_be_bytes()[..], ROUTED.to_vec())
        );
    }
    stream.write_all(&queries[queries.len() - 1..]).unwrap();
    assert_eq!(read_framed(&mut stream)[..2], 499_u16.to_be_bytes());
}

#[test]
fn connections_that_mean_harm_are_ended() {
    let address = "127.0.8.9";
    let _router = router(address);
    let ended = |what: &str, bytes: &[u8]| {
        let mut stream = connect(address);
        stream.write_all(bytes).unwrap();
        // The end or a reset, and no answer.
        let read = stream.read(&mut [0; 64]);
        assert!(
            read.as_ref().map_or_else(
                |error| error.kind() == std::io::ErrorKind::ConnectionReset,
                |length| *length == 0
            ),
            "{what}: {read:?}"
        );
    };
    ended("a giant query", &framed(&[0; 60_000]));
    ended("an answer", &framed(&[0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    ended("an empty query", &[0, 0]);
    // Half a query is waited for, but not for ever, and a byte now and then does not help.
    let slow = connect(address);
    let mut feeder = slow.try_clone().unwrap();
    let bytes = framed(&query(1, HOST, A));
    let began = Instant::now();
    let feeding = std::thread::spawn(move || {
        for byte in &bytes[..bytes.len() - 1] {
            if feeder.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let read = (&slow).read(&mut [0; 64]);
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    let seconds = began.elapsed().as_secs_f64();
    assert!((4.0..15.0).contains(&seconds), "{seconds} s");
    feeding.join().unwrap();
    assert!(is_served(address));
}

#[test]
fn idle_connections_keep_nobody_out() {
    let address = "127.0.8.10";
    // Where 1024 files are the rule, this test alone would need nearly all.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let mut router = router(address);
    let idle: Vec<_> = (0..1000).map(|_| connect(address)).collect();
    assert!(is_served(address));
    let mut stream = connect(address);
    stream.write_all(&framed(&query(3, HOST, A))).unwrap();
    assert_eq!(addresses_in(&read_framed(&mut stream), 39), ROUTED);
    // The oldest were ended for the newest, and not because they were idle for so long.
    let deadline = Instant::now() + Duration::from_secs(2);
    while router.server.open_files() > 300 {
        assert!(
            Instant::now() < deadline,
            "{} files are open",
            router.server.open_files()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // They do not keep the router from ending either.
    assert_eq!(router.server.ends_at("TERM"), Some(0));
    drop(idle);
}

#[test]
fn it_ends_when_told_and_says_why_it_cannot_begin() {
    let listen = format!("127.0.8.11:{PORT}");
    let mut first = router("127.0.8.11");
    run(&["router", "--no-http", "--dns", &listen])
        .exits(5)
        .says(&format!("failed to listen at {listen}"))
        .says("ss -lntup");
    assert_eq!(first.server.ends_at("INT"), Some(0));
    // The names' address is the one it listens at, unless another is given.
    let second = Router::start(&["--no-http", "--dns", &listen]);
    assert_eq!(addresses(("127.0.8.11", PORT), HOST), Some(vec![[127, 0, 8, 11]]));
    drop(second);
    run(&["router", "--no-http", "--dns", "0.0.0.0:5381"])
        .exits(2)
        .says("--address IP");
    run(&["router", "--no-http", "--dns", "192.0.2.1:5353"])
        .exits(2)
        .says("this machine does not have that address");
    run(&["router", "--no-http", "--dns", "localhost"])
        .exits(2)
        .says("write it like");
    run(&["router", "--no-http", "--dns", &listen, "--domain", "K8s"])
        .exits(2)
        .says("lower-case");
}
