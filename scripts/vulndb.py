#!/usr/bin/env python3
"""Makes a vulnerability database for govulncheck from a clone of github.com/golang/vulndb,
where vuln.go.dev cannot be reached:

  scripts/vulndb.py CLONE OUT && make vuln GOVULNDB=file://OUT

CLONE may be a bare repository. The form is https://go.dev/doc/security/vuln/database#api.
"""
import io, json, os, subprocess, sys, tarfile

clone, out = sys.argv[1], os.path.abspath(sys.argv[2])
taken = subprocess.run(["git", "-C", clone, "log", "-1", "--format=%cI"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
raw = subprocess.run(["git", "-C", clone, "archive", "HEAD", "data/osv"], check=True, stdout=subprocess.PIPE).stdout
os.makedirs(f"{out}/ID", exist_ok=True)
os.makedirs(f"{out}/index", exist_ok=True)
modules, vulns = {}, []
with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
    for member in tar:
        if not member.name.endswith(".json"):
            continue
        entry = json.load(tar.extractfile(member))
        entry["modified"] = taken  # the clone has no date in its place
        with open(f"{out}/ID/{entry['id']}.json", "w") as f:
            json.dump(entry, f)
        vulns.append({"id": entry["id"], "modified": entry["modified"], "aliases": entry.get("aliases", [])})
        for affected in entry.get("affected", []):
            about = {"id": entry["id"], "modified": entry["modified"]}
            # The last version that fixes it, if it is fixed for good.
            events = [e for r in affected.get("ranges", []) for e in r["events"]]
            if events and "fixed" in events[-1]:
                about["fixed"] = events[-1]["fixed"]
            of = modules.setdefault(affected["package"]["name"], [])
            if about not in of:
                of.append(about)
for name, index in {
    "db": {"modified": taken},
    "vulns": sorted(vulns, key=lambda v: v["id"]),
    "modules": [{"path": p, "vulns": modules[p]} for p in sorted(modules)],
}.items():
    with open(f"{out}/index/{name}.json", "w") as f:
        json.dump(index, f)
print(f"{len(vulns)} reports, as of {taken}")
