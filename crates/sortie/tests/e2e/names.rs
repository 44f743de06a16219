//! Policies by host name: a container looks a name up, and leaves with the policy's address towards
//! what it was answered, over every protocol.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use sortie_lab::{
    Call, Container, ContainerSpec, Destination, EngineKind, Place, Process, Result, Traffic,
    eventually,
};

use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, HOST_V4, LIMIT, PODMAN, Stage, ip};

/// The internet's resolver, which an engine's own asks.
const SERVER: &str = "198.51.100.53";

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: db}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations: [{hosts: [db.example]}]
  action: Egress
  egress: {addresses: [203.0.113.11, \"2001:db8:113::11\"]}
";

/// Types of records (RFC 1035, RFC 3596).
pub(crate) const A: u8 = 1;
pub(crate) const AAAA: u8 = 28;

/// A stage whose container `web` looks names up; no gateway runs yet.
fn stage(name: &str, engine: EngineKind) -> Result<(Stage, Container)> {
    let stage = Stage::guarded(name, engine)?;
    apply(&stage)?;
    let web = stage.managed(&web_spec(&stage)?)?;
    Ok((stage, web))
}

/// On Docker with its own resolver in between, which it has on networks that somebody made.
fn web_spec(stage: &Stage) -> Result<ContainerSpec> {
    let web = ContainerSpec::new("web").name_server(SERVER);
    if stage.engine.kind() == PODMAN {
        return Ok(web);
    }
    stage.network("shop", 1, &[])?;
    Ok(web.network("shop"))
}

/// Whom a container asks.
pub(crate) fn resolver(container: &Container) -> Result<IpAddr> {
    let file = container.exec(&["cat", "/etc/resolv.conf"])?.output;
    let mut words = file.split_whitespace();
    words.find(|word| *word == "nameserver");
    Ok(ip(words.next().unwrap_or_else(|| panic!("{file}"))))
}

fn apply(stage: &Stage) -> Result<()> {
    stage.applied(POLICY).map(drop)
}

fn gateway(stage: &Stage, name: &str) -> Result<Process> {
    stage.spawn(name, &["gateway"])
}

/// A query for A (RFC 1035, section 4.1).
pub(crate) fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// What a container is told of a name by the resolver that it has; none where it is told nothing.
fn looked_up(container: &Container, name: &str) -> Result<Option<IpAddr>> {
    let resolver = resolver(container)?;
    let ask = || -> std::io::Result<Option<IpAddr>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect((resolver, 53))?;
        let mut answer = [0; 512];
        let length = match socket
            .send(&query(name))
            .and_then(|_| socket.recv(&mut answer))
        {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // NOERROR, and the one record is the last.
        let last: Option<[u8; 4]> = answer[..length].last_chunk().copied();
        let told = answer[3] % 16 == 0 && answer[7] == 1;
        Ok(last
            .filter(|_| told)
            .map(|last| Ipv4Addr::from(last).into()))
    };
    Ok(container.place()?.run(ask)?.expect("a lookup"))
}

fn is_told(container: &Container, name: &str, address: IpAddr) -> Result<()> {
    eventually(LIMIT, &format!("{name} is {address}"), || {
        match looked_up(container, name) {
            Ok(Some(told)) if told == address => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// All addresses of a name, asked for by TCP at the internet's server; each is a pointer to the name,
/// type, class, time to live and length before it (RFC 1035, section 4.1.3).
fn addresses(container: &Container, name: &str) -> Result<Vec<IpAddr>> {
    let of_kind = |kind: u8| -> std::io::Result<Vec<IpAddr>> {
        let mut query = query(name);
        let kind_at = query.len() - 3;
        query[kind_at] = kind;
        let mut server = TcpStream::connect((SERVER, 53))?;
        server.set_read_timeout(Some(LIMIT))?;
        let length = u16::try_from(query.len()).expect("a short query");
        server.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        server.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        server.read_exact(&mut answer)?;
        assert_eq!(answer[3] % 16, 0, "{name}: {answer:?}");
        let records = &answer[query.len()..];
        let mut told = Vec::new();
        if kind == A {
            let (records, []) = records.as_chunks::<16>() else {
                panic!("{name}: {answer:?}");
            };
            told.extend(
                records
                    .iter()
                    .filter_map(|it| it.last_chunk::<4>())
                    .map(|it| IpAddr::from(*it)),
            );
        } else {
            let (records, []) = records.as_chunks::<28>() else {
                panic!("{name}: {answer:?}");
            };
            told.extend(
                records
                    .iter()
                    .filter_map(|it| it.last_chunk::<16>())
                    .map(|it| IpAddr::from(*it)),
            );
        }
        Ok(told)
    };
    let both = || Ok::<_, std::io::Error>([of_kind(A)?, of_kind(AAAA)?].concat());
    Ok(container.place()?.run(both)?.expect("a lookup"))
}

/// Forty addresses of both families, others that take their place while the first ones are still
/// used, and a name of another policy with an address of them.
#[test]
fn each_of_the_addresses_that_a_name_is_answered_with() -> Result<()> {
    let (stage, web) = stage("names-many", DOCKER_29_NFTABLES)?;
    let mail = POLICY
        .replace("name: db", "name: mail")
        .replace("db.example", "mail.example")
        .replace("203.0.113.11", "203.0.113.12")
        .replace("2001:db8:113::11", "2001:db8:113::12");
    // One file is one piece: another text of that name would take the first policy's place.
    stage.applied(&[POLICY, &mail].join("---\n"))?;
    let names = stage.lab.internet().observer().names();
    let _gateway = gateway(&stage, "gateway")?;
    let many: Vec<Destination> = (0..20)
        .map(|_| stage.lab.destination())
        .collect::<Result<_>>()?;
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = many.iter().map(|it| (it.v4, it.v6)).unzip();
    names.set("db.example", &[&v4[1..], &v6[1..]].concat(), 0);
    let other = stage.lab.destination()?.v4;
    names.set("other.example", &[other], 0);
    is_told(&web, "other.example", other)?;
    assert_eq!(
        addresses(&web, "db.example")?,
        [&v4[1..], &v6[1..]].concat()
    );
    let leaves = |to: &[Destination]| {
        for to in to {
            let pairs = [(to.v4, "203.0.113.11"), (to.v6, "2001:db8:113::11")];
            for (to, source) in pairs {
                stage
                    .lab
                    .expect_source(&web, Traffic::Tcp(7), to, ip(source))?;
            }
        }
        Ok::<_, sortie_lab::LabError>(())
    };
    leaves(&many[1..])?;

    names.set("db.example", &[v4[0], v6[0]], 0);
    assert_eq!(addresses(&web, "db.example")?, [v4[0], v6[0]]);
    leaves(&many[..3])?;

    names.set("mail.example", &[v4[0], v6[0]], 0);
    let stand_ins = addresses(&web, "mail.example")?;
    assert!(
        stand_ins.len() == 2 && !stand_ins.contains(&v4[0]),
        "{stand_ins:?}"
    );
    for (to, source) in stand_ins.iter().zip(["203.0.113.12", "2001:db8:113::12"]) {
        let seen = Call::new(Traffic::Tcp(7), *to).make(&web)?;
        assert_eq!(seen.map(|seen| seen.ip()), Some(ip(source)), "{to}");
    }
    leaves(&many[..1])
}

on_every_engine_and_podman!(
    a_name_has_its_policys_address_from_the_first_packet,
    a_look_up_of_before_the_policy,
);

fn a_name_has_its_policys_address_from_the_first_packet(engine: EngineKind) -> Result<()> {
    let (stage, web) = stage("names", engine)?;
    let names = stage.lab.internet().observer().names();
    let (db, other) = (stage.lab.destination()?.v4, stage.lab.destination()?.v4);
    names.set("db.example", &[db], 60);
    names.set("other.example", &[other], 60);
    // Nobody answers, and nothing leaves.
    assert_eq!(looked_up(&web, "db.example")?, None);
    assert_eq!(names.lookups("db.example"), []);
    let _gateway = gateway(&stage, "gateway")?;
    is_told(&web, "db.example", db)?;
    is_told(&web, "other.example", other)?;
    for traffic in [
        Traffic::Tcp(7),
        Traffic::Udp(7),
        Traffic::Ping,
        Traffic::Tcp(443),
    ] {
        stage
            .lab
            .expect_source(&web, traffic, db, ip("203.0.113.11"))?;
    }
    for traffic in [Traffic::Tcp(7), Traffic::Udp(7), Traffic::Tcp(443)] {
        stage.lab.expect_source(&web, traffic, other, ip(HOST_V4))?;
    }
    is_as_explained(&stage, &web, db)?;
    // What no look-up gave: the gateway looks for a name in it, and where none can be seen nothing
    // leaves.
    let unknown = stage.lab.destination()?.v4;
    stage.lab.expect_nothing(&web, Traffic::Udp(443), unknown)?;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(443), unknown, ip(HOST_V4))?;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), unknown, ip(HOST_V4))?;
    Ok(())
}

/// What `explain` says of names is what happens, also where a Deny by address comes on top.
fn is_as_explained(stage: &Stage, web: &Container, db: IpAddr) -> Result<()> {
    let explained = |name: &str| stage.json(&["explain", "web", name]);
    let answer = explained("db.example:7")?;
    assert_eq!(answer["plane"], "kernel", "{answer}");
    assert_eq!(answer["policy"], "db", "{answer}");
    assert_eq!(answer["sources"][0]["source"], "203.0.113.11", "{answer}");
    assert_eq!(
        answer["addresses"][0]["address"],
        db.to_string(),
        "{answer}"
    );
    let answer = explained("other.example:7")?;
    assert_eq!(answer["verdict"], "AsWithoutSortie", "{answer}");
    let with_deny = format!(
        "{POLICY}---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: deny}}
spec:
  workloads: [{{containers: {{names: [web]}}}}]
  destinations: [{{cidrs: [{db}/32]}}]
  action: Deny
"
    );
    let apply = |policies: &str| stage.applied(policies).map(drop);
    apply(&with_deny)?;
    let answer = explained("db.example:7")?;
    assert_eq!(answer["verdict"], "Drop", "{answer}");
    assert_eq!(answer["policy"], "deny", "{answer}");
    stage.lab.expect_nothing(web, Traffic::Tcp(7), db)?;
    apply(POLICY)?;
    let answer = explained("db.example:7")?;
    assert_eq!(answer["policy"], "db", "{answer}");
    stage
        .lab
        .expect_source(web, Traffic::Tcp(7), db, ip("203.0.113.11"))?;
    Ok(())
}

/// With the runtime a container starts when its look-ups are answered: the first one is, and what
/// comes right behind it has the policy's address.
#[test]
fn the_first_look_up_of_all_is_answered() -> Result<()> {
    let (stage, web) = stage("names-first", DOCKER_29_NFTABLES)?;
    web.remove()?;
    let spec = ContainerSpec::new("web")
        .network("shop")
        .name_server(SERVER);
    let names = stage.lab.internet().observer().names();
    let _gateway = gateway(&stage, "gateway")?;
    stage.install("60");
    for number in 0..8 {
        let db = stage.lab.destination()?.v4;
        names.set("db.example", &[db], 0);
        let mark = stage.lab.mark()?;
        let first = format!(
            "nslookup -type=a db.example >/told 2>&1; told=$?; nc -w 5 {db} 7 </dev/null; \
             echo $told >/first; sleep 3600"
        );
        let web = stage
            .engine
            .run(&spec.clone().command(&["sh", "-c", &first]))?;
        let told = eventually(LIMIT, "it was answered or not", || {
            let told = web.exec(&["cat", "/first", "/told"]);
            let told = told.map_err(|error| error.to_string())?;
            if told.code == 0 {
                Ok(told.output)
            } else {
                Err(told.output)
            }
        })?;
        assert!(told.starts_with("0\n"), "{number}: {told}");
        let frames = stage.lab.frames_since(&mark)?;
        assert!(
            frames.iter().any(|(_, frame)| frame.left_for(db)),
            "{number}: {told}"
        );
        stage
            .lab
            .expect_only_sources(&mark, db, &[ip("203.0.113.11")])?;
        web.remove()?;
    }
    Ok(())
}

/// A program that looked up before there was any policy, and never does it again. No gateway is
/// needed for that, and the agent may have been another one.
fn a_look_up_of_before_the_policy(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::guarded("names-before", engine)?;
    let web = stage.engine.run(&web_spec(&stage)?)?;
    let names = stage.lab.internet().observer().names();
    let (db, other) = (stage.lab.destination()?.v4, stage.lab.destination()?.v4);
    names.set("db.example", &[db], 0);
    names.set("other.example", &[other], 0);
    is_told(&web, "db.example", db)?;
    is_told(&web, "other.example", other)?;
    let leaves = |stage: &Stage, db_as: &str| {
        for (to, source) in [(db, db_as), (other, HOST_V4)] {
            for traffic in [Traffic::Tcp(7), Traffic::Udp(7)] {
                stage.lab.expect_source(&web, traffic, to, ip(source))?;
            }
        }
        Ok::<_, sortie_lab::LabError>(())
    };
    leaves(&stage, HOST_V4)?;
    // What it has heard is for the next agent; how soon it hears is the machine's business.
    eventually(LIMIT, "both names are kept", || {
        let kept = stage.host.path("/run/sortie/names.jsonl");
        let kept = fs::read_to_string(kept).map_err(|error| error.to_string())?;
        let both = kept.contains("db.example") && kept.contains("other.example");
        both.then_some(()).ok_or(kept)
    })?;
    stage.kill_agent()?;
    stage.start_agent(GUARD_ALL)?;
    leaves(&stage, HOST_V4)?;
    apply(&stage)?;
    leaves(&stage, "203.0.113.11")?;
    stage.ok(&["delete", "db"]);
    leaves(&stage, HOST_V4)
}

#[test]
fn names_outlive_agent_and_gateway() -> Result<()> {
    let (mut stage, web) = stage("names-restarts", DOCKER_29_NFTABLES)?;
    let db = stage.lab.destination()?.v4;
    let names = stage.lab.internet().observer().names().clone();
    names.set("db.example", &[db], 60);
    let running = gateway(&stage, "gateway-1")?;
    is_told(&web, "db.example", db)?;
    let leaves_right = |stage: &Stage| {
        let web: &Container = &web;
        for traffic in [Traffic::Tcp(7), Traffic::Udp(7)] {
            stage
                .lab
                .expect_source(web, traffic, db, ip("203.0.113.11"))?;
        }
        Ok::<_, sortie_lab::LabError>(())
    };
    // Without a gateway nothing new is looked up, and what was looked up before goes on.
    running.kill()?;
    running.wait(LIMIT)?;
    leaves_right(&stage)?;
    let running = gateway(&stage, "gateway-2")?;
    is_told(&web, "db.example", db)?;
    // The next agent knows all names, also when the gateway is away at the same time, and that two
    // of them have one address.
    names.set("other.example", &[db], 60);
    let other = eventually(LIMIT, "other.example has a stand-in", || {
        let told = looked_up(&web, "other.example").map_err(|error| error.to_string())?;
        told.filter(|told| *told != db).ok_or(format!("{told:?}"))
    })?;
    running.kill()?;
    running.wait(LIMIT)?;
    stage.kill_agent()?;
    leaves_right(&stage)?;
    stage.start_agent(GUARD_ALL)?;
    leaves_right(&stage)?;
    let seen = Call::new(Traffic::Tcp(7), other).make(&web)?;
    assert_eq!(seen.map(|seen| seen.ip()), Some(ip(HOST_V4)));
    let _running = gateway(&stage, "gateway-3")?;
    is_told(&web, "db.example", db)?;
    is_told(&web, "other.example", other)?;
    leaves_right(&stage)?;
    // Without the policy everything is as before it.
    stage.ok(&["delete", "db"]);
    stage.wait_for("web", "Unmanaged")?;
    is_told(&web, "db.example", db)?;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), db, ip(HOST_V4))?;
    let left = web.place()?.nft("list tables")?;
    assert!(!left.contains("sortie"), "{left}");
    Ok(())
}
