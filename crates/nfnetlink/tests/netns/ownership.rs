//! Owned and persistent tables: who may edit them, and what outlives whom.

use std::os::fd::OwnedFd;

use nfnetlink::table::Flags;
use nfnetlink::{Batch, Chain, Family, Socket, Table};

use super::namespace::{in_namespace, run, run_refused, wait_for};

const INET: Family = Family::Inet;

fn owned() -> Table {
    Table::new(INET, "owned").flags(Flags::OWNER | Flags::PERSIST)
}

fn add(socket: &mut Socket, table: &Table) -> Result<(), nfnetlink::Error> {
    let mut batch = Batch::new();
    batch.add_table(table);
    socket.commit(&batch)
}

fn add_chain(socket: &mut Socket, name: &str) -> Result<(), nfnetlink::Error> {
    let mut batch = Batch::new();
    batch.add_chain(&Chain::regular(INET, "owned", name));
    socket.commit(&batch)
}

#[test]
fn a_foreign_flush_leaves_the_owned_table() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        add(&mut socket, &owned()).unwrap();
        add(&mut socket, &Table::new(INET, "plain")).unwrap();
        run("nft", &["flush ruleset"]);
        let names: Vec<_> = socket
            .tables(INET)
            .unwrap()
            .into_iter()
            .map(|t| t.name)
            .collect();
        assert_eq!(names, ["owned"]);
        run_refused("nft", &["delete table inet owned"]);
        run_refused("nft", &["add chain inet owned x"]);
        let error = add_chain(&mut Socket::open().unwrap(), "x").unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(
            error.to_string().contains("belongs to another socket"),
            "{error}"
        );
        add_chain(&mut socket, "x").unwrap();
    });
}

#[test]
fn the_right_to_edit_goes_with_the_descriptor() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        add(&mut socket, &owned()).unwrap();
        // Answers nobody read, and a dump nobody finished.
        let many: Vec<_> = (0..3000).map(|n| format!("t{n}")).collect();
        let mut batch = Batch::new();
        for name in &many {
            batch.add_table(&Table::new(INET, name.as_str()));
        }
        socket.commit(&batch).unwrap();
        let fd = OwnedFd::from(socket);
        leave_a_dump_unfinished(&fd);
        // A thread outside the namespace: the socket stays in its own.
        let editing = std::thread::spawn(move || {
            let mut socket = Socket::from_fd(fd).unwrap();
            assert_eq!(socket.tables(INET).unwrap().len(), 3001);
            add_chain(&mut socket, "by-another").unwrap();
            socket
        });
        let mut socket = editing.join().unwrap();
        assert_eq!(socket.chains(INET).unwrap().len(), 1);
    });
}

/// Asks for a listing of all tables and reads nothing of it.
fn leave_a_dump_unfinished(fd: &OwnedFd) {
    use std::os::fd::AsRawFd;
    const NFT_MSG_GETTABLE: u16 = 10 << 8 | 1;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend(NFT_MSG_GETTABLE.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 12]);
    let flags = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::send(fd.as_raw_fd(), &request, flags).unwrap();
}

#[test]
fn an_orphan_persists_and_can_be_reclaimed() {
    in_namespace(|| {
        let mut first = Socket::open().unwrap();
        add(&mut first, &owned()).unwrap();
        add_chain(&mut first, "kept").unwrap();
        drop(first);

        let mut second = Socket::open().unwrap();
        let orphan = wait_for("the owner to go", || {
            let table = second.table(INET, "owned").unwrap().unwrap();
            table.owner.is_none().then_some(table)
        });
        // Without an owner the kernel takes the owner flag away, too.
        assert_eq!(orphan.flags, Flags::PERSIST);
        add(&mut second, &owned()).unwrap();
        assert_eq!(second.chains(INET).unwrap().len(), 1);
        let reclaimed = second.table(INET, "owned").unwrap().unwrap();
        assert!(reclaimed.owner.is_some());
        run("nft", &["flush ruleset"]);
        assert!(second.table(INET, "owned").unwrap().is_some());
    });
}

#[test]
fn an_owned_table_without_persist_goes_with_its_socket() {
    in_namespace(|| {
        let mut first = Socket::open().unwrap();
        add(&mut first, &Table::new(INET, "owned").flags(Flags::OWNER)).unwrap();
        let mut second = Socket::open().unwrap();
        assert!(second.table(INET, "owned").unwrap().is_some());
        drop(first);
        wait_for("the table to go", || {
            second.table(INET, "owned").unwrap().is_none().then_some(())
        });
    });
}

#[test]
fn a_plain_table_becomes_owned_by_deletion_and_addition() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        add(&mut socket, &Table::new(INET, "owned")).unwrap();
        assert!(add(&mut socket, &owned()).is_err());
        let mut batch = Batch::new();
        batch.delete_table(INET, "owned");
        batch.add_table(&owned());
        socket.commit(&batch).unwrap();
        assert!(
            socket
                .table(INET, "owned")
                .unwrap()
                .unwrap()
                .owner
                .is_some()
        );
        // What is owned can be destroyed by its owner, on every kernel.
        let mut batch = Batch::new();
        batch.destroy_table(INET, "owned");
        socket.commit(&batch).unwrap();
        assert_eq!(socket.tables(INET).unwrap(), []);
    });
}
