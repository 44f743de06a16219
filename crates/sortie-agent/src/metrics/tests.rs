use super::*;

#[test]
fn each_value_has_its_line_with_help_and_type() {
    let metrics = Metrics::default();
    metrics.tell(Sample {
        workloads: vec![("ready", 2), ("blocked", 0)],
        addresses_usable: 1,
        engines: vec![("docker", 1), ("podman", 0)],
        dropped: vec![("denied", 7)],
        leaks: 3,
        audits: vec![AuditStatus {
            policy: "try".into(),
            since: String::new(),
            all: crate::api::AuditCount {
                other_source: 4,
                passed_packets: 5,
                ..Default::default()
            },
            workloads: Vec::new(),
        }],
        source_ports_max: 9,
        ..Sample::default()
    });
    metrics.applied(0.002);
    let text = metrics.text().unwrap();
    for line in [
        "# HELP sortie_workloads Workloads by state, as in `sortie status`",
        "# TYPE sortie_workloads gauge",
        "sortie_workloads{state=\"ready\"} 2",
        "sortie_workloads{state=\"blocked\"} 0",
        "sortie_egress_addresses{usable=\"true\"} 1",
        "sortie_engine_connected{engine=\"docker\"} 1",
        "sortie_engine_connected{engine=\"podman\"} 0",
        "sortie_converged 0",
        "# TYPE sortie_dropped_packets counter",
        "sortie_dropped_packets_total{reason=\"denied\"} 7",
        "sortie_leaks_total 3",
        "sortie_audit_flows_total{policy=\"try\",outcome=\"other-source\"} 4",
        "sortie_audit_flows_total{policy=\"try\",outcome=\"same\"} 0",
        "sortie_audit_passed_packets_total{policy=\"try\"} 5",
        "sortie_source_ports_used_max 9",
        "# UNIT sortie_apply_duration_seconds seconds",
        "sortie_apply_duration_seconds_bucket{le=\"0.001\"} 0",
        "sortie_apply_duration_seconds_bucket{le=\"0.003\"} 1",
        "sortie_apply_duration_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let version = format!(
        "sortie_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&version), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}
