# A command that computes until it was looked at: looked.sh FILE COUNT LOG...
#
# Writes its process id into FILE, waits until COUNT ids are there, then until the driver calls in each LOG
# show that its lists were begun to be read twice more: one look is over then.
file=$1 count=$2
shift 2
looks() { n=$(grep -c 'nvmlDeviceGetComputeRunningProcesses_v3 0' "$1" 2>/dev/null); echo "${n:-0}"; }
echo $$ >> "$file"
until [ "$(wc -l < "$file")" -ge "$count" ]; do sleep 0.05; done
# All counts are taken first: pauses between looks grow to 10 s, and waiting for one log after the other adds them up.
goals=
for log do goals="$goals $(($(looks "$log") + 2))"; done
for log do
    goals=${goals# }
    goal=${goals%% *}
    goals=${goals#"$goal"}
    until [ "$(looks "$log")" -ge "$goal" ]; do sleep 0.05; done
done
