# A program of this host: exit 0 passes, 1 warns, all else is critical; what it prints is the check's output.
# It has no service_id: a check of the node, and while it is critical no service of this node is in any answer.
check {
  id       = "disk"
  name     = "space on the root file system"
  args     = ["/bin/sh", "-c", "used=$(df --output=pcent / | tail -n 1 | tr -dc 0-9); echo \"$used % used\"; [ \"$used\" -lt 98 ] || exit 1"]
  interval = "30s"
  timeout  = "5s"
}
