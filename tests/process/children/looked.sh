# A command that computes until it was looked at: looked.sh FILE COUNT LOG...
#
# Writes its process id into FILE, waits until COUNT ids are there, then until the driver calls in each LOG
# show that its lists were begun to be read twice more: one look is over then.
file=$1 count=$2
shift 2
looks() { n=$(grep -c 'nvmlDeviceGetComputeRunningProcesses_v3 0' "$1" 2>/dev/null); echo "${n:-0}"; }
echo $$ >> "$file"
until [ "$(wc -l < "$file")" -ge "$count" ]; do sleep 0.05; done
for log do
    seen=$(looks "$log")
    until [ "$(looks "$log")" -ge $((seen + 2)) ]; do sleep 0.05; done
done
