# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Heartbeat guest: a multiboot kernel that checks its own memory and shows a
# counter that stops only when the guest stops. See README.md for its command
# line, its serial output and its status page.
#
# The timer interrupt does one thing, the counter. Memory and serial port are
# the main loop's, with interrupts enabled, so neither ever delays a tick.

        .set    STATUS,    0x200000     # physical address of the status page
        .set    MAGIC,     0x31424d48   # "HMB1"
        .set    S_BOOTS,   STATUS + 4
        .set    S_COUNTER, STATUS + 8   # u64, 8-byte aligned
        .set    S_ERRORS,  STATUS + 16
        .set    S_READY,   STATUS + 20
        .set    S_PASSES,  STATUS + 24
        .set    REGION,    0x1000000    # first byte of the checked region
        .set    ADDRESS_KEY, 0xA5A5A5A5
        .set    PAGE_END,  4092         # the last word of a page
        .set    STACK,     0x1F0000     # grows down; kernel and arguments end far below
        .set    COM1,      0x3F8
        .set    PIT_INPUT, 1193182      # Hz
        .set    VECTOR,    0x20         # of IRQ 0

        .arch   i686
        .code32
        .text
        .globl  _start

        .align  4
        .long   0x1BADB002, 2, -(0x1BADB002 + 2)   # flag 2: memory information

_start: cli
        mov     $STACK, %esp
        lgdt    gdt_register
        ljmp    $8, $1f
1:      mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %eax, %ss
        cld
        call    serial_setup
        call    status_setup
        mov     $'B', %al
        call    print_letter_line
        call    parse_arguments
        call    check_arguments
        call    power_button_setup
        call    timer_setup
        sti
        call    fill_region
        movl    $1, S_READY
        mov     $'R', %al
        call    print_letter_line
        mov     S_COUNTER, %eax
        mov     %eax, next_slice
        mov     %eax, next_beat

# Sleep until the next tick unless work is due. The look is done with
# interrupts off: sti takes effect after hlt, so no tick is slept through.
main_loop:
        cli
        mov     S_COUNTER, %eax
        mov     %eax, %ecx
        sub     next_beat, %eax         # signed difference: right across a wrap
        jns     beat
        sub     next_slice, %ecx
        jns     slice
        sti
        hlt
        jmp     main_loop

beat:   sti
        mov     beat_ticks, %eax
        mov     $next_beat, %edi
        call    schedule
        call    print_heartbeat
        call    poll_power_button
        jmp     main_loop

slice:  sti
        mov     slice_ticks, %eax
        mov     $next_slice, %edi
        call    schedule
        call    visit_pages
        jmp     main_loop

# *edi += eax, or, if that is past already, the present: late work is not piled up.
schedule:
        add     (%edi), %eax
        mov     S_COUNTER, %edx
        mov     %edx, %ecx
        sub     %eax, %ecx
        js      1f
        mov     %edx, %eax
1:      mov     %eax, (%edi)
        ret

# IRQ 0. A plain 32-bit add with carry could be seen half done from outside;
# lock cmpxchg8b on an aligned u64 is one 64-bit store, on hardware and in TCG.
tick:   push    %eax
        push    %ebx
        push    %ecx
        push    %edx
        mov     S_COUNTER, %eax
        mov     S_COUNTER + 4, %edx
1:      mov     %eax, %ebx
        mov     %edx, %ecx
        add     $1, %ebx
        adc     $0, %ecx
        lock cmpxchg8b S_COUNTER
        jnz     1b
        pop     %edx
        pop     %ecx
        pop     %ebx
        pop     %eax
        iret                            # the PIC acknowledges by itself

# Count this boot. The magic comes last: who sees it sees a whole page.
status_setup:
        xor     %edx, %edx              # boots so far
        cmpl    $MAGIC, STATUS
        jne     1f
        mov     S_BOOTS, %edx
1:      movl    $0, STATUS
        mov     %ebx, %ebp              # the loader's information structure
        mov     $STATUS + 8, %edi
        xor     %eax, %eax
        mov     $1022, %ecx
        rep stosl
        inc     %edx
        mov     %edx, S_BOOTS
        movl    $MAGIC, STATUS
        ret

# Read "MIB PAGES_PER_TICK HZ [SLOWDIV]". QEMU puts the kernel's path before
# it, which may hold spaces and digits: the arguments are the words after the
# last word that is not a number. Changes everything but ebp.
parse_arguments:
        testl   $4, (%ebp)              # is there a command line?
        jz      bad_arguments
        mov     16(%ebp), %esi
        mov     %esi, %edi
1:      lodsb
        test    %al, %al
        jz      2f
        cmp     $' ', %al
        je      1b
        sub     $'0', %al
        cmp     $9, %al
        jbe     1b
        mov     %esi, %edi
        jmp     1b
2:      mov     %edi, %esi
3:      mov     (%esi), %al             # the rest of that word
        test    %al, %al
        jz      bad_arguments
        inc     %esi
        cmp     $' ', %al
        jne     3b
        xor     %ecx, %ecx              # arguments read
4:      call    parse_number
        jc      5f
        cmp     $4, %ecx
        je      bad_arguments
        mov     %ebx, arguments(, %ecx, 4)
        inc     %ecx
        jmp     4b
5:      cmp     $3, %ecx
        jb      bad_arguments
        ret

# The number at esi to ebx; carry set: there is none. Changes eax, edx.
parse_number:
        mov     (%esi), %al
        cmp     $' ', %al
        jne     1f
        inc     %esi
        jmp     parse_number
1:      test    %al, %al
        stc
        jz      3f
        xor     %ebx, %ebx
2:      movzbl  (%esi), %eax
        sub     $'0', %eax
        cmp     $9, %eax
        ja      3f                      # the end; ja: carry is clear
        cmp     $100000000, %ebx
        jae     bad_arguments
        imul    $10, %ebx
        add     %eax, %ebx
        inc     %esi
        jmp     2b
3:      ret

check_arguments:
        mov     hertz, %eax
        cmp     $100, %eax
        jb      bad_arguments
        cmp     $10000, %eax
        ja      bad_arguments
        cmpl    $0, slow_divisor
        je      bad_arguments
        xor     %edx, %edx
        mov     $10, %ecx
        div     %ecx
        mov     %eax, beat_ticks
        xor     %edx, %edx
        div     %ecx
        mull    slow_divisor
        test    %edx, %edx
        jnz     bad_arguments
        test    %eax, %eax
        js      bad_arguments           # beyond the signed comparison
        mov     %eax, slice_ticks
        cmpl    $4080, mebibytes
        ja      bad_arguments
        shll    $20, mebibytes
        call    check_region
        mov     mebibytes, %eax
        add     $REGION, %eax
        mov     %eax, region_end
        ret

# The region must lie in one range of RAM of the firmware's memory map.
check_region:
        testl   $64, (%ebp)
        jz      bad_arguments
        mov     48(%ebp), %esi          # entries: size, u64 base, u64 length, type
        mov     44(%ebp), %edi
        add     %esi, %edi
1:      cmp     %edi, %esi
        jae     bad_arguments
        cmpl    $1, 20(%esi)
        jne     2f
        cmpl    $0, 8(%esi)
        jne     2f
        mov     $REGION, %eax
        sub     4(%esi), %eax           # of this range, below the region
        jb      2f
        mov     12(%esi), %ecx
        mov     16(%esi), %edx
        sub     %eax, %ecx
        sbb     $0, %edx
        jb      2f
        jnz     3f
        cmp     mebibytes, %ecx
        jae     3f
2:      add     (%esi), %esi
        add     $4, %esi
        jmp     1b
3:      ret

bad_arguments:
        mov     $STACK, %esp
        mov     $'E', %al
        call    print_letter_line
1:      cli
        hlt
        jmp     1b

# One interrupt gate, both PICs remapped, all but IRQ 0 masked, PIT at HZ.
# The PIC's automatic end of interrupt saves a VM exit per tick.
timer_setup:
        mov     $tick, %eax
        mov     %ax, idt + VECTOR * 8
        shr     $16, %eax
        mov     %ax, idt + VECTOR * 8 + 6
        lidt    idt_register
        mov     $pic_program, %esi
        mov     $10, %ecx
1:      movzbl  (%esi), %edx
        mov     1(%esi), %al
        out     %al, %dx
        add     $2, %esi
        loop    1b
        mov     $0x34, %al              # channel 0, rate generator
        out     %al, $0x43
        mov     hertz, %ecx
        mov     %ecx, %eax
        shr     $1, %eax
        add     $PIT_INPUT, %eax        # to the nearest divisor
        xor     %edx, %edx
        div     %ecx
        out     %al, $0x40
        mov     %ah, %al
        out     %al, $0x40
        ret

pic_program:
        .byte   0x20, 0x11, 0xA0, 0x11
        .byte   0x21, VECTOR, 0xA1, VECTOR + 8
        .byte   0x21, 4, 0xA1, 2
        .byte   0x21, 3, 0xA1, 3        # 8086 mode, automatic end of interrupt
        .byte   0x21, 0xFE, 0xA1, 0xFF

# Each page: generation, its address xor ADDRESS_KEY, ..., generation.
fill_region:
        mov     $REGION, %edi
        mov     generation, %eax
1:      cmp     region_end, %edi
        je      2f
        mov     %eax, (%edi)
        mov     %edi, %ebx
        xor     $ADDRESS_KEY, %ebx
        mov     %ebx, 4(%edi)
        mov     %eax, PAGE_END(%edi)
        add     $4096, %edi
        jmp     1b
2:      ret

# Check the next pages, then write the next generation to them.
visit_pages:
        mov     pages_per_tick, %ecx
        cmpl    $0, mebibytes
        je      5f
1:      jecxz   5f
        mov     next_page, %edi
        mov     generation, %eax
        mov     %edi, %ebx
        xor     $ADDRESS_KEY, %ebx
        mov     (%edi), %edx
        cmp     %eax, %edx
        jne     2f
        mov     4(%edi), %edx
        cmp     %ebx, %edx
        jne     2f
        mov     PAGE_END(%edi), %edx
        cmp     %eax, %edx
        je      3f
2:      call    report_page
3:      inc     %eax
        mov     %eax, (%edi)
        mov     %ebx, 4(%edi)
        mov     %eax, PAGE_END(%edi)
        add     $4096, %edi
        cmp     region_end, %edi
        jne     4f
        mov     $REGION, %edi
        incl    generation
        incl    S_PASSES
4:      mov     %edi, next_page
        dec     %ecx
        jmp     1b
5:      ret

# "X<address> <found>" for the page at edi with the wrong word edx.
report_page:
        pusha
        incl    S_ERRORS
        movl    $0, serial_stuck
        push    %edx
        mov     $'X', %al
        call    print_letter
        mov     %edi, %eax
        call    print_hex
        mov     $' ', %al
        call    print_letter
        pop     %eax
        call    print_hex
        mov     $'\n', %al
        call    print_letter
        popa
        ret

# "T<ticks> <generation>", decimal.
print_heartbeat:
        movl    $0, serial_stuck
        mov     $'T', %al
        call    print_letter
        cli
        mov     S_COUNTER, %eax
        mov     S_COUNTER + 4, %edx
        sti
        call    print_decimal
        mov     $' ', %al
        call    print_letter
        mov     generation, %eax
        xor     %edx, %edx
        call    print_decimal
        mov     $'\n', %al
        jmp     print_letter

# The letter al on a line of its own.
print_letter_line:
        movl    $0, serial_stuck
        call    print_letter
        mov     $'\n', %al
        jmp     print_letter

# eax as eight hexadecimal digits. Changes eax, ebx, ecx, edx.
print_hex:
        mov     %eax, %ebx
        mov     $8, %ecx
1:      rol     $4, %ebx
        mov     %ebx, %eax
        and     $15, %eax
        mov     hex_digits(%eax), %al
        push    %ecx
        call    print_letter
        pop     %ecx
        loop    1b
        ret

hex_digits:
        .ascii  "0123456789abcdef"

# The u64 edx:eax in decimal. Changes eax, ebx, ecx, edx, esi.
print_decimal:
        mov     $10, %ebx
        xor     %esi, %esi              # digits on the stack
1:      mov     %eax, %ecx
        mov     %edx, %eax
        xor     %edx, %edx
        div     %ebx                    # the high word first
        xchg    %eax, %ecx
        div     %ebx
        push    %edx
        inc     %esi
        mov     %ecx, %edx
        mov     %eax, %ecx
        or      %edx, %ecx
        jnz     1b
2:      pop     %eax
        add     $'0', %al
        call    print_letter
        dec     %esi
        jnz     2b
        ret

# al to COM1. A port that nobody reads must not hold the guest: after a bounded
# wait the rest of the line is dropped. Changes eax, ecx, edx.
print_letter:
        cmpl    $0, serial_stuck
        jne     3f
        mov     %al, %ah
        mov     $1000, %ecx
        mov     $COM1 + 5, %edx
1:      in      %dx, %al
        test    $0x20, %al              # transmitter empty
        jnz     2f
        loop    1b
        movl    $1, serial_stuck
        ret
2:      mov     $COM1, %edx
        mov     %ah, %al
        out     %al, %dx
3:      ret

serial_setup:
        mov     $serial_program, %esi
        mov     $7, %ecx
1:      movzbl  (%esi), %edx
        add     $COM1, %edx
        mov     1(%esi), %al
        out     %al, %dx
        add     $2, %esi
        loop    1b
        ret

serial_program:
        .byte   1, 0                    # no interrupts
        .byte   3, 0x80, 0, 1, 1, 0     # 115200 baud
        .byte   3, 3                    # 8N1
        .byte   2, 7                    # FIFO on and empty
        .byte   4, 3                    # DTR, RTS

# ICH9 (q35): enable the ACPI power button in the PM1 block, if it is there.
power_button_setup:
        mov     $0x8000F800, %eax       # 00:1f.0, identity
        call    read_pci
        cmp     $0x29188086, %eax
        jne     1f
        mov     $0x8000F840, %eax       # PMBASE
        call    read_pci
        and     $0xFF80, %eax
        jz      1f
        mov     %eax, power_base
        lea     2(%eax), %edx
        mov     $0x100, %eax
        out     %ax, %dx
1:      ret

# The dword of PCI configuration at eax to eax. Changes edx.
read_pci:
        mov     $0xCF8, %edx
        out     %eax, %dx
        mov     $0xCFC, %edx
        in      %dx, %eax
        ret

# Power off (S5) when the button was pressed, with "P" on the serial port.
poll_power_button:
        mov     power_base, %edx
        test    %edx, %edx
        jz      1f
        in      %dx, %ax
        test    $0x100, %eax
        jz      1f
        mov     $'P', %al
        call    print_letter_line
        mov     power_base, %edx
        add     $4, %edx
        mov     $0x2000, %eax           # SLP_EN, SLP_TYP 0
        out     %ax, %dx
1:      ret

        .align  8
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF      # 8: code, flat
        .quad   0x00CF93000000FFFF      # 16: data, flat
gdt_register:
        .word   . - gdt - 1
        .long   gdt
        .align  8
idt:    .fill   VECTOR, 8, 0
        .word   0, 8, 0x8E00, 0         # interrupt gate, address set at run time
idt_register:
        .word   . - idt - 1
        .long   idt

        .align  4
arguments:
mebibytes:      .long 0                 # bytes once checked
pages_per_tick: .long 0
hertz:          .long 0
slow_divisor:   .long 1
beat_ticks:     .long 0                 # ticks between two heartbeats
slice_ticks:    .long 0                 # ticks between two visits
next_beat:      .long 0
next_slice:     .long 0
region_end:     .long 0
next_page:      .long REGION
generation:     .long 1
power_base:     .long 0
serial_stuck:   .long 0
