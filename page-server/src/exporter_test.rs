use super::*;

#[test]
fn the_metrics_are_to_be_had_over_tcp() {
    let address = listen("127.0.0.1:0".parse().unwrap(), Metrics::new().unwrap()).unwrap();
    assert!(address.ip().is_loopback() && address.port() != 0);
    for (asked, status) in
        [("GET /metrics HTTP/1.1\r\n\r\n", "200 OK"), ("nonsense\r\n\r\n", "400 Bad Request")]
    {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(asked.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.contains("rekindle_pages_sessions 0"), status == "200 OK", "{answer}");
    }
    assert!(listen(address, Metrics::new().unwrap()).is_err());
}
