#!/usr/bin/env bash
# Makes a recording of three hours for the measurements in README.md: speech with music and silences between, as a mono
# MP3. `benches/three-hours.sh FOLDER_WITH_SPEECH OUT.mp3`; needs sox and ffmpeg.
set -euo pipefail
speech=$(realpath "$1") out=$(realpath "$2")
part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
for name in licence-11min gettysburg; do
    ffmpeg -nostdin -loglevel error -i "$speech/$name.mp3" -ac 1 -ar 22050 "$part/$name.wav"
done
sox -q "$speech/jfk.wav" -r 22050 "$part/jfk.wav"
sox -q -n -r 22050 "$part/music.wav" synth 45 pluck A3 pluck C4 pluck E4 pluck A4 tremolo 2 40 remix - gain -12
sox -q -n -r 22050 "$part/silence.wav" trim 0 40
sox -q -n -r 22050 "$part/noise.wav" synth 20 pinknoise gain -40
cd "$part"
sox -q jfk.wav music.wav gettysburg.wav silence.wav licence-11min.wav noise.wav hour-part.wav
sox -q hour-part.wav -t wav - repeat 12 trim 0 10800 | ffmpeg -nostdin -loglevel error -y -i - -b:a 64k -f mp3 out.mp3
mv out.mp3 "$out"
