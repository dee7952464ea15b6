"""FFmpeg as the server of a stream: ``python ffmpeg_server.py FILE URL SECONDS`` sends FILE at a steady rate, once."""

import sys
import time

import av


def main() -> None:
    path, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    listening = '?listen=1' if url.startswith('tcp:') else ''
    with av.open(path) as source, av.open(url + listening, 'w', format='mpegts') as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
            time.sleep(seconds / len(packets))


if __name__ == '__main__':
    main()
