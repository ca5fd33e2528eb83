# A custom executor in the shell of the image: speaks the v1 executor API in JSON over netcat. Runs one task, whose data it prints.
address=${MESOS_SLAVE_PID#*@}
agent=${MESOS_SLAVE_PID%@*}
ids="\"framework_id\":{\"value\":\"$MESOS_FRAMEWORK_ID\"},\"executor_id\":{\"value\":\"$MESOS_EXECUTOR_ID\"}"

# post BODY: the request, as it goes over the wire.
post() {
    printf 'POST /%s/api/v1/executor HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "$agent" "$address" "${#1}" "$1"
}

# update STATE END_OF_UUID: posts a status of the task, and waits for the answer's first line.
update() {
    { post "{\"type\":\"UPDATE\",$ids,\"update\":{\"status\":{\"task_id\":{\"value\":\"$task\"},\"state\":\"$1\",\"source\":\"SOURCE_EXECUTOR\",\"message\":\"custom\",\"uuid\":\"AAAAAAAAQACAAAAAAAAA$2==\"}}}"; sleep 5; } |
        nc "${address%:*}" "${address#*:}" | { read -r line; case $line in *202*) ;; *) echo "refused: $line" ;; esac; } &
}

# The connection stays open while something could still be written to it.
mkfifo /tmp/events
{ post "{\"type\":\"SUBSCRIBE\",$ids,\"subscribe\":{}}"; sleep 600; } | nc "${address%:*}" "${address#*:}" >/tmp/events &
while read -r line; do
    case $line in
    *'"type":"LAUNCH"'*)
        task=$(printf %s "$line" | sed 's/.*"task_id":{"value":"\([^"]*\)"}.*/\1/')
        echo "custom executor runs $task"
        update TASK_RUNNING AA
        ;;
    *'"type":"ACKNOWLEDGED"'*)
        acknowledged=$((acknowledged + 1))
        # The task takes a while: an agent that still sets up the container cannot bear its end. The test sees when it has.
        [ "$acknowledged" = 1 ] && until [ -e "$MESOS_SANDBOX/go" ]; do sleep 0.1; done && update TASK_FINISHED QA
        # The first process of the container: the rest ends with it.
        [ "$acknowledged" = 2 ] && exit 0
        ;;
    *'"type":"SHUTDOWN"'*) exit 0 ;;
    esac
done </tmp/events
