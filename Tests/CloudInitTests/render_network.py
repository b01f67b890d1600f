"""Renders a seed's network configuration by cloud-init's own code: render_network.py KIND FILE DIRECTORY

KIND is "v2" (NoCloud's network-config) or "openstack" (ConfigDrive's network_data.json). Prints what netplan, networkd,
NetworkManager, ifupdown (eni) and sysconfig are given, file by file; for the renderers that cannot, the error. udev's rules are left out.
"""
import json
import os
import sys

import yaml

from cloudinit.distros import rhel
from cloudinit.net import eni, netplan, network_manager, network_state, networkd, sysconfig
from cloudinit.sources.helpers import openstack

kind, path, directory = sys.argv[1:]
with open(path) as file:
    data = file.read()
if kind == "openstack":
    data = json.loads(data)
    macs = {link["ethernet_mac_address"]: f"eth{index}" for index, link in enumerate(data["links"])}
    config = openstack.convert_net_json(data, known_macs=macs)
else:
    config = yaml.safe_load(data)

settings = {"netplan": {"netplan_path": "netplan.yaml", "postcmds": False}, "sysconfig": rhel.Distro.renderer_configs["sysconfig"]}
renderers = {"netplan": netplan, "networkd": networkd, "network-manager": network_manager, "eni": eni, "sysconfig": sysconfig}
for name, module in renderers.items():
    target = os.path.join(directory, name)
    os.makedirs(target)
    try:
        renderer = module.Renderer(settings.get(name, {}))
        state = network_state.parse_net_config_data(config, renderer=renderer)
        renderer.render_network_state(state, target=target)
    except Exception as error:
        print(f"## {name}: {type(error).__name__}: {error}")
        continue
    for base, _, files in sorted(os.walk(target)):
        for file in sorted(files):
            if file.endswith(".rules") or file == "NetworkManager.conf":
                continue
            full = os.path.join(base, file)
            print(f"## {name} {os.path.relpath(full, target)}")
            lines = [line.rstrip() for line in open(full)]
            print("\n".join(line for line in lines if line and not line.startswith("#")))
