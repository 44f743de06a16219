use super::*;

#[test]
fn a_written_message_reads_back() {
    let mut writer = Writer::new();
    let mark = writer.begin_message(7, 3, 42, 2, 10);
    writer.str(1, "abc");
    writer.nest(2, |w| {
        w.be32(1, 0x0102_0304);
        w.u8(2, 9);
    });
    writer.end_message(mark);
    let all: Vec<_> = messages(writer.as_slice())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].kind, all[0].flags, all[0].seq), (7, 3, 42));
    let (family, res_id, body) = all[0].body().unwrap();
    assert_eq!((family, res_id), (2, 10));
    let top: Vec<_> = attrs(body).collect::<Result<_, _>>().unwrap();
    assert_eq!(top[0].string(), "abc");
    let inner: Vec<_> = top[1].nested().collect::<Result<_, _>>().unwrap();
    assert_eq!(inner[0].be32().unwrap(), 0x0102_0304);
    assert_eq!(inner[1].u8().unwrap(), 9);
}

#[test]
fn an_attribute_that_outgrows_its_length_is_remembered() {
    let mut writer = Writer::new();
    writer.bytes(1, &vec![0; 70_000]);
    assert!(writer.overflow());
}

#[test]
fn lengths_that_lie_are_errors() {
    assert!(messages(&[1, 2, 3]).next().unwrap().is_err());
    let mut header = [0_u8; 16];
    header[0] = 200;
    assert!(messages(&header).next().unwrap().is_err());
    header[0] = 4;
    assert!(messages(&header).next().unwrap().is_err());
    assert!(attrs(&[3, 0, 1, 0]).next().unwrap().is_err());
    assert!(attrs(&[9, 0, 1, 0, 0, 0, 0, 0]).next().unwrap().is_err());
}
