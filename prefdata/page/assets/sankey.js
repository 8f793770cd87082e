// What became of every row, as streams. A stream with a filter opens the list of its rows.

const STREAMS = { width: 900, node: 12, gap: 14, left: 4, right: 220 };

/** Draws one flow with its table. @param {any} flow */
function flowFigure(flow) {
  const title = flow.title.includes(flow.unit) ? flow.title : `${flow.title} (${flow.unit})`;
  const { figure } = pictureWithTable(title, () => sankeyOf(flow), () => flowTable(flow));
  figure.classList.add("wide");
  return figure;
}

function flowTable(flow) {
  return dataTable(flow.title, ["to", "from", flow.unit], flow.links.map((link) => {
    const name = flow.nodes[link.to];
    const cell = link.filter ? filterButton(name, `Show ${name}`, () => showOnly(...link.filter)) : name;
    return [cell, flow.nodes[link.from], shown(link.count)];
  }));
}

/** Lays a flow out, with columns by distance from the start. */
function layoutOf(flow, height) {
  const layout = d3.sankey().nodeWidth(STREAMS.node).nodePadding(STREAMS.gap).nodeAlign(d3.sankeyLeft).nodeSort(null)
    .extent([[STREAMS.left, 6], [STREAMS.width - STREAMS.right, height - 6]]);
  return layout({
    nodes: flow.nodes.map((name) => ({ name })),
    links: flow.links.map((link) => ({ source: link.from, target: link.to, value: link.count, filter: link.filter })),
  });
}

function sankeyOf(flow) {
  need("d3", "d3-sankey");
  const ends = Math.max(...["from", "to"].map((side) => new Set(flow.links.map((link) => link[side])).size));
  const height = Math.min(460, Math.max(90, 30 * ends + 20));
  const graph = layoutOf(flow, height);
  const svg = d3.create("svg").attr("viewBox", `0 0 ${STREAMS.width} ${height}`).attr("class", "sankey")
    .attr("role", "group").attr("aria-label", `${flow.title}: ${flow.unit}. The same numbers are in the table.`);
  const links = svg.append("g").attr("fill", "none").selectAll("path").data(graph.links).join("path")
    .attr("d", d3.sankeyLinkHorizontal()).attr("stroke-width", (link) => Math.max(1.5, link.width))
    .attr("class", (link) => `stream ${link.filter ? "open" : ""} ${streamKind(link.target.name)}`)
    .on("pointermove", (event, link) => showTip(event, linkWords(flow, link))).on("pointerleave", hideTip);
  links.filter((link) => link.filter).attr("tabindex", 0).attr("role", "button")
    .attr("aria-label", (link) => `${linkWords(flow, link)}. Show them in the list.`)
    .on("click", (_, link) => { hideTip(); showOnly(...link.filter); })
    .on("keydown", (event, link) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        showOnly(...link.filter);
      }
    });
  drawNodes(svg, graph.nodes);
  return /** @type {any} */ (svg.node());
}

function linkWords(flow, link) {
  return `${link.source.name} to ${link.target.name}: ${shown(link.value)} ${flow.unit}`;
}

/** Says what a stream means for its colour. */
function streamKind(name) {
  if (["with a pair", "chosen", "prompts kept", "same"].includes(name)) return "kept";
  return name === "rejected" || name === "not picked" ? "aside" : "lost";
}

function drawNodes(svg, nodes) {
  const group = svg.append("g").selectAll("g").data(nodes).join("g");
  group.append("rect").attr("x", (node) => node.x0).attr("y", (node) => node.y0).attr("class", "node")
    .attr("width", (node) => node.x1 - node.x0).attr("height", (node) => Math.max(1.5, node.y1 - node.y0));
  group.append("text").attr("x", (node) => node.x1 + 7).attr("y", (node) => (node.y0 + node.y1) / 2).attr("dy", "0.35em")
    .text((node) => `${short(node.name, 30)} ${shown(node.value)}`);
}
