use super::*;

fn said(text: &str) -> String {
    format!("{:#}", events(text).unwrap_err())
}

#[test]
fn a_trace_is_understood() {
    let events = events(&format!("{HEADER}\n500,read,4096,65536,100\n700,prefetch,0,4096,900\n")).unwrap();
    assert_eq!(
        events,
        [
            Event { start: 400, end: 500, what: What::Read, offset: 4096, bytes: 65536 },
            Event { start: 0, end: 700, what: What::Prefetch, offset: 0, bytes: 4096 },
        ]
    );
}

#[test]
fn what_is_no_trace_is_refused_by_name_and_line() {
    assert!(said("").contains("first line"));
    assert!(said("a,b\n1,2\n").contains("first line"));
    assert!(said(&format!("{HEADER}\n")).contains("nothing else"));
    for (line, complaint) in [
        ("1,read,0,4096", "4 fields"),
        ("1,read,0,4096,5,6", "6 fields"),
        ("1,stare,0,4096,5", "`stare` is not"),
        ("-1,read,0,4096,5", "`-1` is no number for us"),
        ("1,read,0x10,4096,5", "no number for offset"),
        ("1,read,0,,5", "no number for bytes"),
        ("1,read,0,99999999999999999999,5", "no number for bytes"),
        ("1,read,18446744073709551615,4096,5", "more than"),
        ("1,read,0,4096,18446744073709551615", "more than"),
        ("\u{1b}[31m,read,0,4096,5", r"`\u{1b}[31m` is no number"),
    ] {
        let said = said(&format!("{HEADER}\n1,read,0,4096,5\n{line}\n"));
        assert!(said.contains("line 3") && said.contains(complaint), "{line}: {said}");
    }
}
