//! The topology as a picture, with the real names and addresses.

use anyhow::Result;

use super::Scene;

/// Width of the picture.
const WIDTH: usize = 98;
/// Width of an endpoint's box; three of them and two gaps are the width of the node's.
const SMALL: usize = 32;
const _: () = assert!(WIDTH <= 100 && 3 * SMALL + 2 <= WIDTH);

/// Lines of a box: a title in the upper edge, `taps` in the lower edge where lines go down.
fn boxed(
    title: &str,
    content: &[String],
    width: usize,
    taps: &[usize],
    roof: Option<usize>,
) -> Vec<String> {
    let edge = |left: char, right: char, marks: &[usize], mark: char| {
        let mut line: Vec<char> = std::iter::once(left)
            .chain(std::iter::repeat_n('─', width - 2))
            .chain(std::iter::once(right))
            .collect();
        for at in marks {
            if let Some(cell) = line.get_mut(*at) {
                *cell = mark;
            }
        }
        line
    };
    let mut top = edge('┌', '┐', roof.as_slice(), '┴');
    for (cell, c) in top.iter_mut().skip(2).zip(format!(" {title} ").chars()) {
        *cell = c;
    }
    let mut lines = vec![top.into_iter().collect::<String>()];
    for text in content {
        let room = width - 4;
        let cut: String = text.chars().take(room).collect();
        lines.push(format!("│ {cut:<room$} │"));
    }
    lines.push(edge('└', '┘', taps, '┬').into_iter().collect());
    lines
}

fn wire(columns: &[usize]) -> String {
    let mut line = vec![' '; WIDTH];
    for at in columns {
        if let Some(cell) = line.get_mut(*at) {
            *cell = '│';
        }
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

pub(super) fn draw(scene: &Scene) -> Result<String> {
    let (lab, network) = (&scene.lab, &scene.network);
    let addresses = |list: Vec<std::net::IpAddr>| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("  ")
    };
    let mut out = Vec::new();
    let middle = WIDTH - 12;
    out.extend(boxed(
        &format!("outside: {}", lab.outside.ns.name()),
        &[format!(
            "{:<16} {}",
            lab.outside.device,
            addresses(lab.outside.addresses())
        )],
        WIDTH,
        &[middle],
        None,
    ));
    out.push(wire(&[middle]));

    let published: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    let mut content = vec![
        format!(
            "{:<16} {}",
            lab.node.device,
            addresses(lab.node.addresses())
        ),
        format!(
            "{:<16} netd_xdp, netd_up_in, netd_up_out: masquerade and published ports",
            ""
        ),
    ];
    for p in &published {
        content.push(format!(
            "{:<16} {}  →  {} port {}",
            "", p.spec.host, p.endpoint, p.spec.port
        ));
    }
    content.push(String::new());
    let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
    content.push(format!(
        "{:<16} {}",
        network.device.as_deref().unwrap_or("-"),
        addresses(network.gateways.clone())
    ));
    content.push(format!(
        "{:<16} gateway of network {}: {}",
        "",
        network.name,
        subnets.join("  ")
    ));
    content.push(format!(
        "{:<16} netd_gw_out: node → endpoint; netd_ep_out below: guard and switch",
        ""
    ));
    content.push(String::new());
    let cells: Vec<String> = scene
        .endpoints
        .iter()
        .map(|e| format!("{:<1$}", e.info.device, SMALL + 1))
        .collect();
    content.push(cells.concat());
    let taps: Vec<usize> = (0..scene.endpoints.len())
        .map(|i| i * (SMALL + 1) + 4)
        .collect();
    out.extend(boxed(
        &format!("node: {}", lab.node.ns.name()),
        &content,
        WIDTH,
        &taps,
        Some(middle),
    ));
    out.push(wire(&taps));

    let boxes: Vec<Vec<String>> = scene
        .endpoints
        .iter()
        .map(|e| {
            let mut lines = vec![format!("{}  {}", e.info.ifname, e.info.mac)];
            lines.extend(e.info.addresses.iter().map(ToString::to_string));
            boxed(
                &format!("{}: {}", e.name, e.ns.name()),
                &lines,
                SMALL,
                &[],
                None,
            )
        })
        .collect();
    let height = boxes.iter().map(Vec::len).max().unwrap_or(0);
    for i in 0..height {
        let parts: Vec<&str> = boxes
            .iter()
            .map(|b| b.get(i).map_or("", String::as_str))
            .collect();
        out.push(parts.join(" "));
    }
    Ok(out.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_box_has_its_width() {
        let lines = boxed(
            "title",
            &["short".into(), "x".repeat(200)],
            40,
            &[4],
            Some(20),
        );
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|l| l.chars().count() == 40), "{lines:#?}");
        assert!(lines.first().unwrap().starts_with("┌─ title ─"));
        assert_eq!(lines.last().unwrap().chars().nth(4), Some('┬'));
    }
}
