#!/usr/bin/python3
"""For canonical_test.js: of every folder in the one given, are the names of before.onnx in after.onnx, and does ONNX's
checker accept it? Prints a JSON object a folder, a line each. One process for all, as a start takes a second."""
import json
import os
import sys

import onnx


def checked(model):
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as e:  # whatever it says is what there is to tell
        return str(e)
    return ""


def names(graph):
    constants = {t.name for t in graph.initializer}
    inputs = [v.name for v in graph.input if v.name not in constants]
    return inputs, [v.name for v in graph.output]


def constants(graph):
    made = {n.output[0] for n in graph.node if n.op_type == "Constant"}
    return {t.name for t in graph.initializer} | made


def lost(before, after):
    """What has no place in the new graph: a node is there, or nobody reads what it made, or it became a constant."""
    out = []
    if names(before) != names(after):
        out.append(f"inputs and outputs {names(before)} became {names(after)}")
    read = {i for n in after.node for i in n.input} | {v.name for v in after.output}
    there = {n.name: n for n in after.node if n.name}
    for n in before.node:
        new = there.get(n.name)
        if not n.name or n.op_type == "Constant":
            continue
        if new is None and any(o in read and o not in constants(after) for o in n.output):
            out.append(f"node '{n.name}'")
        if new is not None and (new.op_type != n.op_type or not set(new.output) <= set(n.output)):
            out.append(f"what node '{n.name}' is and makes")
    out += [f"constant '{c}'" for c in read & constants(before) if c not in constants(after)]
    unknown = {n.name for n in after.node if n.op_type != "Constant"} - {n.name for n in before.node}
    if all(n.name for n in before.node):
        out += [f"new node '{n}'" for n in unknown]
    return out


for case in sorted(os.listdir(sys.argv[1])):
    b, a = (onnx.load(os.path.join(sys.argv[1], case, f"{part}.onnx")) for part in ("before", "after"))
    print(json.dumps({"case": case, "lost": lost(b.graph, a.graph), "before": checked(b), "after": checked(a)}))
